"""The measurements of scripts/bench: variants take turns within each round, so that load hits all of them alike."""

import argparse
import http.client
import json
import os
import platform
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_plot import plot

# ---- what is compared -------------------------------------------------------------------------------------------------

PYTHON = "python:3.13-slim"
SHELL = "debian:trixie-slim"
# The limits that dindctl sets on its own, for `docker run` to be asked for the same.
LIMITS = (
    "--network none --cap-drop ALL --security-opt no-new-privileges --user 65534:65534 --read-only "
    "--tmpfs /tmp:size=64m --memory 512m --memory-swap 512m --pids-limit 128 --cpus 1 --ulimit core=0 --log-driver none"
)
EXEC = "dindctl exec {extra} python -c 'print(1)'"
EXEC_OUTPUT = "dindctl exec --timeout 300s --max-output 2GiB sh -c 'head -c {size} /dev/zero'"
RUN = f"docker run --rm {LIMITS} {PYTHON} python -c 'print(1)'"
RUN_OUTPUT = f"docker run --rm {LIMITS} {SHELL} sh -c 'head -c {{size}} /dev/zero'"
HEALTH = "dindctl health"
INFO = "docker info"
STATE = "/run/dindctl/state.json"

API = "/run/api/docker.sock"  # DOCKER_HOST=unix:// moves the socket there for dindctl and the official scripts alike
HAND_CONTAINERD = (
    "mount --make-rshared /; containerd >/dev/null 2>&1 & "
    "until [ -S /run/containerd/containerd.sock ]; do sleep 0.005; done; "
    "exec dockerd --containerd /run/containerd/containerd.sock "
)
# --tls=false spares dockerd's deliberate 15 s, and nothing spares the 1 s that it sleeps for each TCP host.
HAND = {
    "unix": HAND_CONTAINERD + f"--host unix://{API}",
    "tcp": HAND_CONTAINERD + f"--host unix://{API} --host tcp://0.0.0.0:2375 --tls=false",
}

SCRIPTS = ["dockerd-entrypoint.sh", "docker-entrypoint.sh", "dind"]
PARTS = ["start", "stop", "prepare", "certificates", "health", "idle", "exec", "output"]

# name: (title, unit, ours, reference, goal as factor of the reference, goal as addition, unit of the addition is `unit`)
GOALS = {
    ("start tcp", "official"): (1 / 25, 0),
    ("start unix", "by hand"): (1.05, 5),
    ("start tcp", "by hand"): (1.05, 5),
    ("prepare", "official"): (1 / 10, 0),
    ("prepare, new certificates", "official"): (1 / 10, 0),
    ("prepare, new certificates", None): (None, 30),
    ("prepare, certificates there", "official"): (1 / 10, 0),
    ("health wall", "docker info"): (1 / 15, 0),
    ("health cpu", "docker info"): (1 / 15, 0),
    ("health memory", None): (None, 5000),
    ("pid 1 memory", None): (None, 4096),
    ("pid 1 wake-ups in 60 s", None): (None, 0),
    ("stop", "by hand"): (1, 30),
    ("exec cold", "docker run"): (0.8, 0),
    ("1 GB to stdout", "docker run"): (1, 0),
}

# Both preparations begin behind the same few lines: while these run, the outer engine ends its own work for the start of the
# container, which would otherwise disturb the faster of the two only.
BEFORE = "printf '#!/bin/sh\\nexit 0\\n' >{0}; chmod +x {0}; "
OUR_PREPARATION = BEFORE.format("/usr/local/bin/nothing") + "exec dindctl entrypoint"
# A dockerd that ends at once, and the microseconds until it did.
OFFICIAL_PREPARATION = (
    BEFORE.format("/usr/local/bin/dockerd") + "s=$EPOCHREALTIME; "
    "dockerd-entrypoint.sh >/dev/null 2>&1; e=$EPOCHREALTIME; echo $((${e/./} - ${s/./})) >/run/api/took"
)
# Seconds until somebody asks whether the inner daemon is there: nobody asks the official scripts while they are measured.
UNDISTURBED = 0.2

# ---- the engine, without a client program in between ------------------------------------------------------------------


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout=120):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Engine:
    def __init__(self):
        host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        if not host.startswith("unix://"):
            sys.exit(f"bench: error: DOCKER_HOST is {host}\nbench: hint: only an engine on this machine can be measured")
        self.path = host.removeprefix("unix://")

    def call(self, method, path, body=None, ok=(200, 201, 204, 304)):
        connection = UnixConnection(self.path)
        payload = json.dumps(body) if body is not None else None
        connection.request(method, f"/v1.44{path}", payload, {"Content-Type": "application/json"})
        response = connection.getresponse()
        data = response.read()
        connection.close()
        if response.status not in ok:
            raise RuntimeError(f"{method} {path}: {response.status} {data.decode(errors='replace').strip()}")
        return json.loads(data) if data[:1] in (b"{", b"[") else data


def docker(*arguments, check=True, stdin=None):
    done = subprocess.run(["docker", *arguments], check=False, capture_output=True, text=True, stdin=stdin)
    if check and done.returncode:
        raise RuntimeError(f"docker {shlex.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def ping(connect, deadline):
    """Milliseconds are lost to polling, but for every variant alike: connect every 2 ms until one answer is 200."""
    while time.monotonic() < deadline:
        try:
            with connect() as client:
                client.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
                if b" 200 " in client.recv(256):
                    return
        except OSError:
            pass
        time.sleep(0.002)
    raise TimeoutError("no answer from the inner daemon")


class Container:
    """One privileged container of a variant; its unix socket is seen from outside in a folder that both share."""

    def __init__(self, engine, bench, image, environment=(), entrypoint=None, command=None):
        self.engine = engine
        self.folder = Path(tempfile.mkdtemp(prefix="bench-", dir=bench.shared))
        env = {"DOCKER_HOST": f"unix://{API}", "DOCKER_TLS_CERTDIR": ""} | dict(environment)
        body = {
            "Image": image,
            "Env": [f"{name}={value}" for name, value in env.items()],
            "HostConfig": {"Privileged": True, "Binds": [f"{self.folder}:/run/api"]},
            "Labels": {"dindctl.bench": str(os.getpid())},
            "Healthcheck": {"Test": ["NONE"]},
        }
        if entrypoint is not None:
            body["Entrypoint"] = entrypoint
        if command is not None:
            body["Cmd"] = command
        self.id = engine.call("POST", "/containers/create", body)["Id"]

    def start(self, over, timeout=90, undisturbed=0):
        """Milliseconds from the request to start until the inner daemon answered the first request, which nobody sends for the
        first `undisturbed` seconds."""
        begin = time.monotonic()
        self.engine.call("POST", f"/containers/{self.id}/start")
        time.sleep(undisturbed)
        if over == "tcp":
            networks = self.engine.call("GET", f"/containers/{self.id}/json")["NetworkSettings"]["Networks"]
            address = (next(iter(networks.values()))["IPAddress"], 2375)
            ping(lambda: socket.create_connection(address, timeout), begin + timeout)
        else:
            ping(self.unix, begin + timeout)
        return (time.monotonic() - begin) * 1000

    def unix(self):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(90)
        client.connect(str(self.folder / "docker.sock"))
        return client

    def stop(self):
        """Milliseconds from SIGTERM until the engine knows that the container ended."""
        begin = time.monotonic()
        self.engine.call("POST", f"/containers/{self.id}/kill?signal=SIGTERM")
        self.engine.call("POST", f"/containers/{self.id}/wait")
        return (time.monotonic() - begin) * 1000

    def shell(self, script):
        return docker("exec", self.id, "bash", "-c", script)

    def remove(self):
        self.engine.call("DELETE", f"/containers/{self.id}?force=true&v=true", ok=(204, 404))
        subprocess.run(["rm", "-rf", str(self.folder)], check=True)


# ---- the measurements -------------------------------------------------------------------------------------------------


class Bench:
    def __init__(self, options):
        self.options = options
        self.engine = Engine()
        self.shared = os.environ.get("DINDCTL_LAB_SHARED") or tempfile.gettempdir()
        self.values = {}  # measurement: variant: [values]
        self.units = {}
        self.notes = []
        self.official = self.official_image()

    def add(self, measurement, variant, unit, *values):
        self.units[measurement] = unit
        self.values.setdefault(measurement, {}).setdefault(variant, []).extend(values)

    def progress(self, text):
        print(f"bench: {text}", file=sys.stderr, flush=True)

    def official_image(self):
        """The official scripts on the same base as ours, so that only the entrypoint differs."""
        folder = self.options.official_scripts
        if folder:
            with tempfile.TemporaryDirectory() as context:
                for name in SCRIPTS:
                    target = Path(context, name)
                    target.write_bytes(Path(folder, name).read_bytes())
                    target.chmod(0o755)
                Path(context, "Dockerfile").write_text(
                    f"FROM {self.options.image}\n"
                    "RUN apt-get update && apt-get install -y --no-install-recommends openssl"
                    " && rm -rf /var/lib/apt/lists/* && cd /usr/local/bin && rm -f docker-init dind *entrypoint.sh\n"
                    f"COPY {' '.join(SCRIPTS)} /usr/local/bin/\n"
                    "RUN ln -s /usr/bin/tini-static /usr/local/bin/docker-init\n"
                    'HEALTHCHECK NONE\nENTRYPOINT ["dockerd-entrypoint.sh"]\n'
                )
                docker("build", "-q", "-t", "dindctl/bench-official", context)
            return "dindctl/bench-official"
        if docker("images", "-q", "docker:dind").strip():
            self.notes.append("official scripts: image docker:dind, with another engine version than ours")
            return "docker:dind"
        self.notes.append("official scripts: left out (no --official-scripts DIR and no image docker:dind)")
        return None

    def variants(self, over):
        image = self.options.image
        yield "dindctl", lambda: Container(self.engine, self, image)
        yield "by hand", lambda: Container(self.engine, self, image, entrypoint=["sh", "-c", HAND[over]])
        if self.official:
            yield "official", lambda: Container(self.engine, self, self.official)

    def start_and_stop(self, over):
        for round_ in range(self.options.runs + 1):
            for name, make in self.variants(over):
                if name == "official" and over == "unix":
                    continue  # it always opens TCP as well; its unix time is its TCP time
                container = make()
                try:
                    started = container.start(over)
                    stopped = container.stop()
                finally:
                    container.remove()
                if round_ == 0:
                    continue  # the first round only warms the page cache
                self.add(f"start {over}", name, "ms", started)
                self.add("stop", name, "ms", stopped)
            self.progress(f"start over {over}: round {round_} of {self.options.runs}")

    def state(self, container):
        return json.loads(container.shell(f"cat {STATE}"))

    def prepare_ms(self, container):
        """What dindctl itself measured: all steps of the preparation."""
        return self.state(container)["prepare_ms"]

    def prepare(self):
        """The first preparation of a new container, by both: of ours the steps alone, and all until it starts a daemon."""
        for round_ in range(self.options.runs + 1):
            container = Container(self.engine, self, self.options.image, entrypoint=["bash", "-c", OUR_PREPARATION], command=[])
            try:
                container.start("unix", undisturbed=UNDISTURBED)
                state = self.state(container)
            finally:
                container.remove()
            official = self.prepare_official()
            if round_ == 0:
                continue  # the first round only warms the page cache
            begun = min(service["lives"][0]["started_ms"] for service in state["services"])
            self.add("prepare", "dindctl", "ms", state["prepare_ms"])
            self.add("prepare until the first daemon", "dindctl", "ms", begun)
            if official is not None:
                self.add("prepare", "official", "ms", official)
                self.add("prepare until the first daemon", "official", "ms", official)
        self.progress("preparation")

    def prepare_official(self):
        """The scripts with a dockerd that ends at once: from their first line to the exec of dockerd, tini included."""
        if not self.official:
            return None
        container = Container(self.engine, self, self.official, entrypoint=["bash", "-c", OFFICIAL_PREPARATION], command=[])
        try:
            self.engine.call("POST", f"/containers/{container.id}/start")
            self.engine.call("POST", f"/containers/{container.id}/wait")
            return int((container.folder / "took").read_text()) / 1000
        finally:
            container.remove()

    def certificates(self):
        """The preparation with TLS: the first start, which makes certificates, and a later one, which finds them."""
        names = ("prepare, new certificates", "prepare, certificates there")
        for _ in range(self.options.runs):
            tls = {"DOCKER_HOST": "", "DOCKER_TLS_CERTDIR": "/certs"}
            container = Container(self.engine, self, self.options.image, environment=tls)
            try:
                for name in names:
                    self.engine.call("POST", f"/containers/{container.id}/start")
                    container.shell("dindctl health --wait 60s")
                    self.add(name, "dindctl", "ms", self.prepare_ms(container))
                    container.stop()
            finally:
                container.remove()
        if self.official:
            container = Container(self.engine, self, self.official, entrypoint=["sleep", "infinity"], command=[])
            try:
                self.engine.call("POST", f"/containers/{container.id}/start")
                container.shell("printf '#!/bin/sh\\nexit 0\\n' >/usr/local/bin/dockerd; chmod +x /usr/local/bin/dockerd")
                for _ in range(self.options.runs):
                    for name, before in zip(names, ("rm -rf /certs/*", "true")):
                        out = container.shell(
                            f"{before}; umount /tmp 2>/dev/null; export DOCKER_TLS_CERTDIR=/certs DOCKER_HOST=; "
                            "s=$EPOCHREALTIME; dockerd-entrypoint.sh >/dev/null 2>&1; e=$EPOCHREALTIME; "
                            "echo $((${e/./} - ${s/./}))"
                        )
                        self.add(name, "official", "ms", int(out) / 1000)
            finally:
                container.remove()
        self.progress("certificates")

    def inner(self):
        """A dind that stays, with the images in it and GNU time at hand."""
        container = Container(self.engine, self, self.options.image)
        container.start("unix")
        docker("cp", "/usr/bin/time", f"{container.id}:/usr/local/bin/gnu-time")
        save = subprocess.Popen(["docker", "save", PYTHON, SHELL], stdout=subprocess.PIPE)
        docker("exec", "-i", container.id, "docker", "load", "-q", stdin=save.stdout)
        if save.wait():
            raise RuntimeError("docker save failed")
        return container

    def loop(self, container, command, count):
        """Wall and CPU milliseconds for one call, from a loop inside the container; a failing command ends the run."""
        script = (
            f"set -e; TIMEFORMAT='%U %S'; s=$EPOCHREALTIME; "
            f"cpu=$( {{ time for ((i = 0; i < {count}; i++)); do {command} >/dev/null 2>&1; done; }} 2>&1 ); "
            "e=$EPOCHREALTIME; echo $((${e/./} - ${s/./})) $cpu"
        )
        wall, user, system = container.shell(script).split()
        return int(wall) / 1000 / count, (float(user) + float(system)) * 1000 / count

    def peak_kib(self, container, command):
        return int(container.shell(f"gnu-time -f %M -o /tmp/peak {command} >/dev/null 2>&1; tail -n 1 /tmp/peak"))

    def health(self, container):
        for _ in range(self.options.runs):
            for name, command, count in (("dindctl", HEALTH, 20), ("docker info", INFO, 3)):
                wall, cpu = self.loop(container, command, count)
                self.add("health wall", name, "ms", wall)
                self.add("health cpu", name, "ms", cpu)
                self.add("health memory", name, "KiB", self.peak_kib(container, command))
        self.progress("health probe")

    def idle(self, container):
        """PID 1 of ours and tini, both for the same minute."""
        tini = Container(self.engine, self, self.options.image, entrypoint=["tini-static", "--", "sleep", "infinity"], command=[])
        try:
            self.engine.call("POST", f"/containers/{tini.id}/start")
            self.progress("PID 1 at rest: one minute")
            time.sleep(3)
            first = {}
            for name, one in (("dindctl", container), ("tini", tini)):
                first[name] = self.status(one)
            time.sleep(60)
            for name, one in (("dindctl", container), ("tini", tini)):
                now = self.status(one)
                self.add("pid 1 memory", name, "KiB", now["VmRSS"])
                wakes = sum(now[key] - first[name][key] for key in ("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"))
                self.add("pid 1 wake-ups in 60 s", name, "", wakes)
        finally:
            tini.remove()

    def status(self, container):
        lines = container.shell("cat /proc/1/status").splitlines()
        return {key: int(value.split()[0]) for key, value in (line.split(":", 1) for line in lines) if value.split()[:1] and value.split()[0].isdigit()}

    def exec(self, container):
        commands = {"dindctl": self.exec_command(container), "docker run": RUN}
        for round_ in range(self.options.runs + 1):
            for name, command in commands.items():
                wall, cpu = self.loop(container, f"DOCKER_HOST=unix://{API} {command}", 1)
                if round_:
                    self.add("exec cold", name, "ms", wall)
                    self.add("exec cold, CPU of the client", name, "ms", cpu)
        for name, command in commands.items():
            self.add("exec, memory of the client", name, "KiB", self.peak_kib(container, command))
        self.progress("exec")

    def exec_command(self, container):
        """--no-warm where this version has a pool that could answer instead."""
        extra = "--no-warm" if "--no-warm" in container.shell("dindctl exec --help") else ""
        return EXEC.format(extra=extra)

    def output(self, container):
        size = 10**9
        commands = {"dindctl": EXEC_OUTPUT.format(size=size), "docker run": RUN_OUTPUT.format(size=size)}
        for _ in range(max(3, self.options.runs // 3)):
            for name, command in commands.items():
                out = container.shell(
                    f"set -e; s=$EPOCHREALTIME; n=$(gnu-time -f %M -o /tmp/peak {command} 2>/dev/null | wc -c); e=$EPOCHREALTIME; "
                    "echo $((${e/./} - ${s/./})) $n $(tail -n 1 /tmp/peak)"
                )
                wall, count, peak = map(int, out.split())
                if count < size:
                    raise RuntimeError(f"{name} passed on {count} of {size} bytes")
                self.add("1 GB to stdout", name, "ms", wall / 1000)
                self.add("1 GB to stdout, memory of the client", name, "KiB", peak)
        self.progress("output")

    def run(self):
        wanted = set(self.options.only or PARTS)
        if wanted & {"start", "stop"}:
            self.guard("start over TCP", self.start_and_stop, "tcp")
            self.guard("start over unix", self.start_and_stop, "unix")
        if "prepare" in wanted:
            self.guard("preparation", self.prepare)
        if "certificates" in wanted:
            self.guard("certificates", self.certificates)
        inside = [(name, getattr(self, name)) for name in ("health", "idle", "exec", "output") if name in wanted]
        if inside:
            self.guard("inside one dind", self.inside, inside)

    def inside(self, measurements):
        container = self.inner()
        try:
            for name, measure in measurements:
                self.guard(name, measure, container)
        finally:
            container.remove()

    def guard(self, name, measure, *arguments):
        """One measurement that fails must not take the others with it, but it fails the run in the end."""
        try:
            measure(*arguments)
        except (RuntimeError, TimeoutError, ValueError, KeyError, OSError) as error:
            self.notes.append(f"FAILED {name}: {error}")
            self.progress(self.notes[-1])

    # ---- what comes out of it --------------------------------------------------------------------------------------

    def rows(self):
        for measurement, variants in self.values.items():
            medians = {name: statistics.median(values) for name, values in variants.items()}
            ours = medians.get("dindctl")
            for name, values in variants.items():
                goal = None
                factor, plus = GOALS.get((measurement, None if name == "dindctl" else name), (None, None))
                if ours is not None and plus is not None and (name == "dindctl" or factor is not None):
                    limit = plus if name == "dindctl" else factor * medians[name] + plus
                    goal = {"limit": limit, "met": ours <= limit}
                yield {
                    "measurement": measurement,
                    "variant": name,
                    "unit": self.units[measurement],
                    "median": medians[name],
                    "min": min(values),
                    "max": max(values),
                    "n": len(values),
                    "ours_to_this": ours / medians[name] if ours is not None and name != "dindctl" and medians[name] else None,
                    "goal": goal,
                    "values": values,
                }

    def report(self):
        info = self.engine.call("GET", "/info")
        rows = list(self.rows())
        result = {
            "schema": "dindctl.bench/v1",
            "machine": {
                "kernel": platform.release(),
                "arch": platform.machine(),
                "cpus": info["NCPU"],
                "memory_bytes": info["MemTotal"],
                "engine": info["ServerVersion"],
                "cgroup": info["CgroupVersion"],
            },
            "dindctl": docker("run", "--rm", "--entrypoint", "dindctl", self.options.image, "--version").strip(),
            "runs": self.options.runs,
            "rows": rows,
            "notes": self.notes,
        }
        out = Path(self.options.out)
        out.mkdir(parents=True, exist_ok=True)
        (out / "bench.json").write_text(json.dumps(result, indent=1) + "\n")
        (out / "bench.svg").write_text(plot(result))
        text = table(result)
        (out / "bench.txt").write_text(text)
        print(text, end="")
        print(f"\n{out}/bench.txt, bench.json, bench.svg")


def table(result):
    head = ("what", "variant", "median", "min", "max", "n", "dindctl is", "goal")
    lines = [head]
    before = None
    for row in result["rows"]:
        goal = row["goal"]
        number = "{:.0f}" if row["unit"] in ("KiB", "") else "{:.1f}"
        lines.append(
            (
                row["measurement"] if row["measurement"] != before else "",
                row["variant"],
                f"{number.format(row['median'])} {row['unit']}".strip(),
                number.format(row["min"]),
                number.format(row["max"]),
                str(row["n"]),
                f"{row['ours_to_this']:.3f}x" if row["ours_to_this"] is not None else "",
                f"<= {number.format(goal['limit'])} {'met' if goal['met'] else 'MISSED'}" if goal else "",
            )
        )
        before = row["measurement"]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    machine = result["machine"]
    text = [
        f"{result['dindctl']}; Docker {machine['engine']}, kernel {machine['kernel']}, {machine['cpus']} CPUs, "
        f"cgroup v{machine['cgroup']}; {result['runs']} rounds, variants in turn, medians",
        "",
    ]
    for line in lines:
        cells = [cell.ljust(width) if i in (0, 1, 7) else cell.rjust(width) for i, (cell, width) in enumerate(zip(line, widths))]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text + [""] + result["notes"]) + "\n"


def rounds(word):
    if not word.isdigit() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is no number of rounds: 1 or more is expected")
    return int(word)


def folder_of_scripts(word):
    missing = [name for name in SCRIPTS if not (Path(word) / name).is_file()]
    if missing:
        raise argparse.ArgumentTypeError(f"{word} has no {', '.join(missing)}")
    return word


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench", allow_abbrev=False)
    parser.add_argument("--repo", required=True, help=argparse.SUPPRESS)
    # Only whether the rest can be understood.
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--runs", type=rounds, default=10, metavar="N")
    parser.add_argument("--only", action="append", choices=PARTS)
    parser.add_argument("--official-scripts", type=folder_of_scripts, metavar="DIR")
    parser.add_argument("--image")
    parser.add_argument("--out", metavar="DIR")
    options = parser.parse_args()
    if options.check:
        return
    options.out = options.out or str(Path(options.repo) / "target/bench")
    bench = Bench(options)
    try:
        bench.run()
    finally:
        label = f"label=dindctl.bench={os.getpid()}"
        left = docker("ps", "-aq", "--filter", label).split()
        if left:
            docker("rm", "-f", "-v", *left)
    bench.report()
    sys.exit(1 if any(note.startswith("FAILED") for note in bench.notes) else 0)


main()
