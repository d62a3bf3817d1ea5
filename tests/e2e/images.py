#!/usr/bin/env python3
"""Archives of images, for `ctr images import`, made without an image builder.

    images.py FOLDER IMAGE...      operator and emulator: stages of the Dockerfile; busybox: a shell

The stages are a stand-in: the programs come from this machine's Rust, linked statically with glibc and little
optimised, instead of from Alpine with musl. Programs, features, user, environment, ports and entrypoint are
read from the Dockerfile.
"""
import hashlib
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
TARGET = platform.machine() + "-unknown-linux-gnu"
REGISTRY = "e2e.local"
VERSION = re.search(r'^version = "(.*)"', open(f"{ROOT}/Cargo.toml").read(), re.M)[1]


def stages():
    """The Dockerfile: the instructions of each stage, by its name."""
    text = open(f"{ROOT}/Dockerfile").read().replace("\\\n", " ")
    found, stage = {}, None
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            stage = found[rest.split()[-1]] = []
        elif word and not word.startswith("#") and stage is not None:
            stage.append((word, rest.strip()))
    return found


def program(feature, name):
    """Builds a program with its feature alone, as .ci/image.sh does; returns its path."""
    environment = os.environ | {
        "RUSTFLAGS": "-C target-feature=+crt-static",
        "CARGO_PROFILE_DEV_OPT_LEVEL": "1",
        "CARGO_PROFILE_DEV_DEBUG": "false",
        "CARGO_PROFILE_DEV_STRIP": "symbols",
    }
    folder = f"{ROOT}/target/e2e"
    command = [os.environ.get("CARGO", "cargo"), "build", "--quiet", "--locked", "--target", TARGET]
    command += ["--target-dir", folder, "--no-default-features", "--features", feature, "--bin", name]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    path = f"{folder}/{TARGET}/debug/{name}"
    if b"INTERP" in subprocess.run(["readelf", "--program-headers", path], capture_output=True, check=True).stdout:
        sys.exit(f"images: {name} is not static, and an image without a C library can't run it")
    return path


def contents(stage, all_stages):
    """The files of an image, as pairs of a path on this machine and one in the image."""
    for word, rest in stage:
        if word != "COPY":
            continue
        match = re.match(r"--from=(\S+) /out/ /$", rest)
        if match:
            for run in (rest for word, rest in all_stages[match[1]] if word == "RUN"):
                for feature, name in re.findall(r"image\.sh program (\S+) (\S+) /out", run):
                    yield program(feature, name), f"/{name}"
            continue
        source, target = re.sub(r"^--from=\S+ ", "", rest).split()
        source = source if source.startswith("/") else f"{ROOT}/{source}"
        if not os.path.exists(source):
            sys.exit(f"images: {source} is missing, which the image holds (Debian: ca-certificates)")
        yield source, target


def config(stage):
    """User, environment, ports and entrypoint."""
    made = {}
    for word, rest in stage:
        if word == "USER":
            made["User"] = rest
        elif word == "ENV":
            made["Env"] = rest.split()
        elif word == "EXPOSE":
            made["ExposedPorts"] = {f"{port}/tcp": {} for port in rest.split()}
        elif word == "ENTRYPOINT":
            made["Entrypoint"] = json.loads(rest)
        elif word not in ("ARG", "LABEL", "COPY"):
            sys.exit(f"images: the stand-in does not know the Dockerfile's {word}")
    return made


def write(path, name, files, settings, folders=(), links=()):
    """An archive of an image with one layer."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        def add(kind, target, mode, **more):
            entry = tarfile.TarInfo(target.lstrip("/"))
            entry.type, entry.mode = kind, mode
            for key, value in more.items():
                setattr(entry, key, value)
            return entry
        made = set()
        for target in [target for _, target in files] + list(folders):
            parts = target.strip("/").split("/")
            for depth in range(1, len(parts) + (target in folders)):
                folder = "/".join(parts[:depth])
                if folder not in made:
                    made.add(folder)
                    tar.addfile(add(tarfile.DIRTYPE, folder, 0o1777 if folder == "tmp" else 0o755))
        for source, target in files:
            mode = 0o755 if os.access(source, os.X_OK) else 0o644
            with open(source, "rb") as file:
                tar.addfile(add(tarfile.REGTYPE, target, mode, size=os.path.getsize(source)), file)
        for target, source in links:
            tar.addfile(add(tarfile.SYMTYPE, target, 0o777, linkname=source))
    layer = layer.getvalue()
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    image = {
        "architecture": architecture, "os": "linux", "config": settings,
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [f"{REGISTRY}/{name}"], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as tar:
        for member, data in (("config.json", json.dumps(image).encode()), ("layer.tar", layer),
                             ("manifest.json", json.dumps(manifest).encode())):
            entry = tarfile.TarInfo(member)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    print(f"    {REGISTRY}/{name}: {len(layer) // 1024} KiB")


def shell(folder):
    """The shell and wget of the pods that use a token, and, by its entrypoint, the node's pause image."""
    busybox = shutil.which("busybox")
    programs = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    links = [(f"/bin/{name}", "busybox") for name in programs if name != "busybox"]
    settings = {"Entrypoint": ["/bin/busybox", "sleep", "2147483647"], "Env": ["PATH=/bin"]}
    write(f"{folder}/busybox.tar", "busybox:1", [(busybox, "/bin/busybox")], settings, ["/tmp"], links)


def main():
    folder, *wanted = sys.argv[1:]
    found = stages()
    for stage in wanted:
        if stage == "busybox":
            shell(folder)
            continue
        name = re.search(r'title="(\S+)"', str(found[stage]))[1]
        folders = ["/tmp"] if "/out/tmp" in str(found[f"build-{stage}"]) else []
        files = list(contents(found[stage], found))
        write(f"{folder}/{name}.tar", f"{name}:{VERSION}", files, config(found[stage]), folders)


main()
