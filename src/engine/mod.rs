/*!
The container engine as a thing to start and to ask: command lines of dockerd and containerd, daemon.json, activation and the health probe.
*/
