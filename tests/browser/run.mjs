// The cases. Their last line counts as the test programs' do: scripts/test reads it.
//
//   node run.mjs        variables: CODE_SERVER_IMAGE, DIND_IMAGE, SCREENSHOTS (a folder)
import { mkdir } from 'node:fs/promises';
import { randomBytes } from 'node:crypto';

import { address, cleanUp, create, docker, give, healthy, start } from './docker.mjs';
import { open } from './editor.mjs';

const { CODE_SERVER_IMAGE: image, DIND_IMAGE: dindImage, SCREENSHOTS: pictures } = process.env;
const IMAGES = ['debian:trixie-slim', 'python:3.13-slim'];
const SETTINGS = { 'terminal.integrated.gpuAcceleration': 'off', 'terminal.integrated.enablePersistentSessions': false };

/** A container with the editor, and the editor. The terminal is drawn as text, so that it can be read. */
async function editorOf(what, options) {
    const password = randomBytes(12).toString('hex');
    const name = await start(what, [...options, '--env', `PASSWORD=${password}`], image);
    await healthy(name);
    const folder = '.local/share/code-server/User';
    const merged = `const fs = require("fs"), p = "/home/coder/${folder}/settings.json";
        fs.writeFileSync(p, JSON.stringify({ ...JSON.parse(fs.readFileSync(p)), ...${JSON.stringify(SETTINGS)} }))`;
    await docker('exec', '--user', 'coder', name, '/opt/code-server/bin/node', '-e', merged);
    return { name, visit: async () => open(`http://${await address(name)}:8080/`, password) };
}

/** What a user does with Docker in the terminal; every answer holds a number that was made up in this run. */
async function worksWithDocker(editor, what) {
    const number = 1000 + Math.floor(Math.random() * 9000);
    await editor.terminal();
    await editor.type("docker info -f 'engine={{.ServerVersion}};'", /engine=\d+\.\d+[^;]*;/);
    await editor.type(`docker run --rm debian:trixie-slim sh -c 'echo run=$((${number} + 1));'`, new RegExp(`run=${number + 1}`));
    await editor.type(`dindctl exec python -c 'print("exec=%d" % (${number} + 2))'`, new RegExp(`exec=${number + 2}`));
    const project = `services:\\n  job:\\n    image: debian:trixie-slim\\n    command: [sh, -c, "echo compose=$$((${number} + 3))"]\\n`;
    await editor.type(`mkdir -p project && cd project && printf '${project}' >compose.yaml && docker compose up; cd`,
        new RegExp(`compose=${number + 3}`));
    await editor.picture(`${pictures}/${what}.png`);
    await editor.reload();
    await editor.shows('project');
    await editor.terminal();
    await editor.type(`echo "history=$(grep -c 'print("exec' ~/.local/state/bash/history);"`, /history=[1-9]\d*;/);
    await editor.type('echo "lines=$(wc -l <project/compose.yaml);"', /lines=4;/);
}

const cases = {
    async own_daemon() {
        const { name, visit } = await editorOf('own', ['--privileged']);
        await docker('exec', name, 'dindctl', 'health', '--wait', '60s');
        await give(name, IMAGES);
        const editor = await visit();
        try {
            await worksWithDocker(editor, 'own-daemon');
        } finally {
            await editor.close();
        }
    },

    async daemon_of_a_service() {
        const network = await create('network', 'net');
        const workspaces = ['--volume', `${await create('volume', 'work')}:/workspaces`];
        const dind = await start('dind', ['--privileged', '--network', network, '--network-alias', 'dind',
            '--env', 'DOCKER_TLS_CERTDIR=', ...workspaces], dindImage);
        await healthy(dind);
        await give(dind, IMAGES);
        const { visit } = await editorOf('client', ['--network', network, '--env', 'DOCKER_HOST=tcp://dind:2375', ...workspaces]);
        const editor = await visit();
        try {
            await worksWithDocker(editor, 'daemon-of-a-service');
        } finally {
            await editor.close();
        }
    },

    async no_daemon_and_why() {
        const { visit } = await editorOf('none', []);
        const editor = await visit();
        try {
            await editor.terminal();
            await editor.sees(/There is no Docker here: .*SYS_ADMIN/s);
            await editor.picture(`${pictures}/no-daemon.png`);
            await editor.type('dindctl status | grep "^no daemon"', /^no daemon: /m);
        } finally {
            await editor.close();
        }
    },
};

await mkdir(pictures, { recursive: true });
const filter = process.argv[2] ?? '';
let [passed, failed] = [0, 0];
try {
    for (const [name, run] of Object.entries(cases).filter(([name]) => name.includes(filter))) {
        const begun = Date.now();
        try {
            await run();
            passed += 1;
            console.log(`test ${name} ... ok (${((Date.now() - begun) / 1000).toFixed(1)} s)`);
        } catch (error) {
            failed += 1;
            console.log(`${error.stack}\ntest ${name} ... FAILED`);
        }
    }
} finally {
    await cleanUp();
}
console.log(`\ntest result: ${failed ? 'FAILED' : 'ok'}. ${passed} passed; ${failed} failed; 0 ignored; finished`);
process.exit(failed ? 1 : 0);
