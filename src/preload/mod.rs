/*!
Archives of images, loaded into the daemon once.

[`find`] lists what is there, [`source`] reads an archive whatever it is packed with, [`survey`] reads it once and looks at everything,
[`docker`] and [`layout`] judge what was seen as what `docker save` writes or as an OCI image layout (pure), [`pack`] sends it in the one
form that every engine loads, [`known`] remembers it on the data root, and [`load`] puts that together.

Nothing of an archive is ever written to a disk of ours, and no name in it becomes a path.
*/

pub mod broken;
pub mod docker;
pub mod find;
pub mod known;
pub mod layout;
pub mod load;
pub mod pack;
pub mod report;
pub mod source;
pub mod survey;

pub use broken::Broken;
