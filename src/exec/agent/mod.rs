//! The agent: PID 1 of the sandbox container.
