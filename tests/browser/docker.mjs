// The docker command, and containers that go with the test.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);
const made = [];

/** Runs `docker ARGUMENTS` and gives what it prints; an error tells what it said. */
export async function docker(...words) {
    try {
        return (await run('docker', words, { maxBuffer: 1 << 26 })).stdout.trim();
    } catch (error) {
        throw new Error(`docker ${words.join(' ')}: ${error.stderr || error.message}`);
    }
}

/** A name that no other run has. */
export function freshName(what) {
    return `dindctl-browser-${what}-${process.pid}`;
}

/** Starts a container, and notes it for `cleanUp`. */
export async function start(what, options, image, words = []) {
    const name = freshName(what);
    made.push(['rm', '--force', '--volumes', name]);
    await docker('run', '--detach', '--name', name, '--label', 'dindctl.test=1', ...options, image, ...words);
    return name;
}

/** Makes a network or volume, and notes it. */
export async function create(kind, what) {
    const name = freshName(what);
    made.push([kind, 'rm', name]);
    await docker(kind, 'create', name);
    return name;
}

/** Copies images into the daemon of a container. */
export async function give(container, images) {
    await run('bash', ['-euo', 'pipefail', '-c', 'name=$1; shift; docker save "$@" | docker exec -i "$name" docker load -q',
        '_', container, ...images]);
}

/** Address on the first of its networks. */
export async function address(container) {
    const found = await docker('inspect', '--format', '{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}', container);
    return found.split(' ')[0];
}

/** Waits until a container is healthy by its own health check. */
export async function healthy(container, seconds = 90) {
    const end = Date.now() + seconds * 1000;
    for (;;) {
        const state = await docker('inspect', '--format', '{{.State.Status}} {{.State.Health.Status}}', container);
        if (state === 'running healthy') return;
        if (!state.startsWith('running') || Date.now() > end) {
            throw new Error(`${container} is ${state}:\n${await docker('logs', '--tail', '30', container)}`);
        }
        await new Promise((resolve) => setTimeout(resolve, 250));
    }
}

/** Removes all of it, the newest first. */
export async function cleanUp() {
    for (const words of made.reverse()) {
        await docker(...words).catch((error) => console.error(`left behind: ${error.message}`));
    }
}
