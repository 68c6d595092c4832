#!/bin/bash
# The first program of a virtual machine's disk: what is to be done there is on a second one.
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
modprobe -a virtio_pci virtio_blk
for ((i = 0; i < 100; i++)); do
    if [[ -b /dev/vda ]]; then break; fi
    sleep 0.1
done
mount -o ro /dev/vda /lab
umount /dev /sys
exec bash /lab/guest.sh
