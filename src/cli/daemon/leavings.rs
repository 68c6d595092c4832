/*!
What daemons that are killed while they make a container leave behind, and no later one knows of: an empty control group, or a program
that containerd runs and no list shows. So each time one of them has come back by itself somebody looks, and removes what is nobody's: a process of its own after dockerd, and after
containerd the one that looks for what dockerd has missed, as memory may be what they died for. A shim that dies alone, which is an
orphan and so our child, can leave one too: it is looked for half a minute later.
*/
use super::super::leavings::COMMAND;
use super::Launch;
use super::missed::asking;
use super::services::DOCKERD;
use crate::init::spec::{Occasion, Upkeep, Verdict};
use crate::sys::wait::Exit;

/// The look; `None` where the API has no unix socket to ask at.
pub fn upkeep(launch: &Launch<'_>, listen: &[String]) -> Option<Upkeep> {
    Some(Upkeep {
        name: "removal of what killed daemons left",
        occasion: Occasion::Blow(DOCKERD.to_owned()),
        spawn: asking(launch, listen, COMMAND)?,
        judge: Box::new(|exit| if exit == Exit::Code(0) { Verdict::Done } else { Verdict::Failed }),
    })
}
