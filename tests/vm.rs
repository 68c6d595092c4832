/*!
The preparation on a real kernel with cgroup v2, in a virtual machine that needs neither root nor hardware support.

`VM_KERNEL` (a bzImage with ext4 and `NVMe` built in, such as Debian's cloud kernel) and `VM_QEMU` say what to boot;
`scripts/lab vm-kernel` prints them. This program is also the machine's init: started as pid 1 it runs all cells, one
after the other, and writes what came of them to the second serial port.
*/

#[path = "vm/cells.rs"]
mod cells;
#[path = "vm/guest.rs"]
mod guest;
#[path = "vm/host.rs"]
mod host;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        _ if std::process::id() == 1 && arguments.len() == 1 => guest::init(),
        Some(role) if role.starts_with("guest-") => guest::role(role, &arguments[2..]),
        _ => host::main(),
    }
}
