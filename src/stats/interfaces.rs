/*!
Which interfaces carry the traffic of the whole container. Those that its own daemon has made for nested containers (bridges, and
what is plugged into them) would count the same bytes again.
*/
use super::reading::Flow;
use super::text;
use crate::probe::Roots;

/// What has come and gone; `None` where it cannot be read.
pub fn traffic(roots: &Roots) -> Option<Flow> {
    let table = std::fs::read_to_string(roots.own.join("net/dev")).ok()?;
    let own = text::interfaces(&table).into_iter().filter(|(name, _)| is_way_out(roots, name));
    Some(own.fold(Flow::default(), |sum, (_, flow)| sum.plus(flow)))
}

fn is_way_out(roots: &Roots, name: &str) -> bool {
    if name == "lo" || name.contains('/') || name.starts_with('.') {
        return false;
    }
    let folder = roots.root.join("sys/class/net").join(name);
    // A device of the machine is the way out, whatever is put on top of it.
    if folder.join("device").exists() {
        return true;
    }
    !folder.join("bridge").exists() && !folder.join("brport").exists()
}
