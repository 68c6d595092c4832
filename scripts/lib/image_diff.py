#!/usr/bin/env python3
"""What two images have different: configuration, and every file of the file systems that their layers make.

    scripts/lib/image_diff.py [--times] IMAGE IMAGE

Images are names that the engine knows, or archives of `docker save` or `-o type=oci`. Times of files are only counted unless --times is
given: a builder without rewrite-timestamp leaves those of the build. Exit code 0: the same, 1: not, 2: it could not be told.
"""
import argparse
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile


def fail(message):
    print(f"image_diff: error: {message}", file=sys.stderr)
    sys.exit(2)


class Archive:
    """An archive of an image, in either of the two forms that `docker save` has had."""

    def __init__(self, path):
        self.tar = tarfile.open(path)
        self.names = {member.name.removeprefix("./"): member for member in self.tar.getmembers()}
        if "manifest.json" in self.names:
            (entry,) = self.json("manifest.json")
            config, self.layers = entry["Config"], entry["Layers"]
        else:
            (entry,) = self.json("index.json")["manifests"]
            manifest = self.blob(entry["digest"])
            if "manifests" in manifest:
                (entry,) = manifest["manifests"]
                manifest = self.blob(entry["digest"])
            place = lambda digest: "blobs/" + digest.replace(":", "/")
            config, self.layers = place(manifest["config"]["digest"]), [place(layer["digest"]) for layer in manifest["layers"]]
        self.config = self.json(config)

    def open(self, name):
        return self.tar.extractfile(self.names[name])

    def json(self, name):
        return json.load(self.open(name))

    def blob(self, digest):
        return self.json("blobs/" + digest.replace(":", "/"))

    def files(self):
        """Each path of the whole file system with what it is, times apart."""
        found = {}
        for layer in self.layers:
            with tarfile.open(fileobj=self.open(layer), mode="r:*") as tar:
                for member in tar:
                    add(found, tar, member)
        return found


def add(found, tar, member):
    path = "/" + member.name.removeprefix("./").strip("/")
    folder, name = os.path.split(path)
    if name == ".wh..wh..opq":
        forget_below(found, folder)
        return
    if name.startswith(".wh."):
        gone = os.path.join(folder, name[4:])
        found.pop(gone, None)
        forget_below(found, gone)
        return
    facts = {"type": member.type.decode(), "mode": oct(member.mode), "owner": f"{member.uid}:{member.gid}", "link": member.linkname}
    if member.isreg():
        data = tar.extractfile(member).read()
        facts["size"], facts["content"] = len(data), hashlib.sha256(data).hexdigest()[:12]
    if member.ischr() or member.isblk():
        facts["device"] = f"{member.devmajor}:{member.devminor}"
    attributes = {key: value for key, value in member.pax_headers.items() if "xattr" in key}
    if attributes:
        facts["attributes"] = attributes
    found[path] = (facts, int(member.mtime))


def forget_below(found, folder):
    for path in [path for path in found if path.startswith(folder.rstrip("/") + "/")]:
        del found[path]


def flat(value, name=""):
    """A tree of JSON as pairs of name and value."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flat(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for number, inner in enumerate(value):
            yield from flat(inner, f"{name}[{number}]")
    else:
        yield name, value


def compare(first, second, times):
    """Lines for what differs, and how many files have only another time."""
    lines, younger = [], 0
    if len(first.layers) != len(second.layers):
        lines.append(f"layers: {len(first.layers)} | {len(second.layers)}")
    left, right = dict(flat(first.config)), dict(flat(second.config))
    for name in sorted(left.keys() | right.keys()):
        # The layers themselves are compared by what is in them.
        if name.startswith("rootfs.") or left.get(name) == right.get(name):
            continue
        lines.append(f"configuration: {name}: {left.get(name)} | {right.get(name)}")
    left, right = first.files(), second.files()
    for path in sorted(left.keys() | right.keys()):
        if path not in left or path not in right:
            lines.append(f"{path}: only in the {'first' if path in left else 'second'}")
            continue
        (facts, time), (others, other_time) = left[path], right[path]
        different = [key for key in sorted(facts.keys() | others.keys()) if facts.get(key) != others.get(key)]
        if different:
            lines.append(f"{path}: " + ", ".join(f"{key} {facts.get(key)} | {others.get(key)}" for key in different))
        elif time != other_time:
            younger += 1
            if times:
                lines.append(f"{path}: time {time} | {other_time}")
    return lines, younger


def archive_of(image, folder, number):
    if os.path.exists(image):
        return Archive(image)
    path = os.path.join(folder, f"{number}.tar")
    saved = subprocess.run(["docker", "save", "-o", path, image], stderr=subprocess.PIPE, text=True, check=False)
    if saved.returncode != 0:
        fail(f"{image}: {saved.stderr.strip()}")
    return Archive(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs=2, metavar="IMAGE", help="name, or archive")
    parser.add_argument("--times", action="store_true", help="files that differ in nothing but their time are different")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        archives = [archive_of(image, folder, number) for number, image in enumerate(arguments.images)]
        lines, younger = compare(*archives, arguments.times)
    for line in lines:
        print(line)
    times = f"; {younger} files differ in nothing but their time" if younger and not arguments.times else ""
    print(f"image_diff: {len(lines)} differences{times}", file=sys.stderr)
    sys.exit(1 if lines else 0)


if __name__ == "__main__":
    main()
