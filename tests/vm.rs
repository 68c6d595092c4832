/*!
The preparation on real kernels, in virtual machines that need neither root nor hardware support: one boot for cgroup
v2, one for version 1 and both beside each other.

`VM_KERNEL` (a bzImage with ext4 and `NVMe` built in, such as Debian's cloud kernel), `VM_KERNEL_61` (Linux 6.1, which
has memory and cpuset on version 1) and `VM_QEMU` say what to boot; `scripts/lab vm-kernel` prints them. This program is also the machine's init: started as pid 1 it runs all cells, one
after the other, and writes what came of them to the second serial port.
*/

#[path = "vm/cells.rs"]
mod cells;
#[path = "vm/guest.rs"]
mod guest;
#[path = "vm/host.rs"]
mod host;
#[path = "vm/host_namespace.rs"]
mod host_namespace;
#[path = "support/qemu.rs"]
mod qemu;
#[path = "vm/v1.rs"]
mod v1;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        _ if std::process::id() == 1 && arguments.len() == 1 => guest::init(),
        Some(role) if role.starts_with("guest-") => guest::role(role, &arguments[2..]),
        _ => host::main(),
    }
}
