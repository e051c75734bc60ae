#!/usr/bin/env python3
"""Runs the commands of README.md as they stand.

Every fenced block marked `sh` has one more word that says how it is run:

    sh run    starts in the background with an open standard input, and is waited for until it
              says "ready"; it is stopped at the end with the line "quit"
    sh test   the test command; not run here but printed by `--print test`
    sh try    run to its end; must succeed; a line `#=> TEXT` says what the line before prints
    sh build  run to its end; must succeed
    sh        shown only: for other machines or long loads

Exit status 0 if every block did what the README says, else 1.
"""
import os
import re
import subprocess
import sys
import threading
import time

READY_SECONDS = 10  # after the end of the build; the README promises it


def blocks(text):
    """The fenced shell blocks of the text: (word, lines)."""
    for match in re.finditer(r"^```sh ?(\w*)\n(.*?)^```$", text, re.M | re.S):
        yield match.group(1), match.group(2)


def fail(message):
    print(f"README: {message}", flush=True)
    sys.exit(1)


def start(command):
    """Starts a server block and waits until it says that it is ready."""
    build = re.sub(r"^cargo run (.*?)--( .*)?$", r"cargo build \1", command.strip(), flags=re.M)
    if build != command.strip():
        subprocess.run(build, shell=True, check=True)
    process = subprocess.Popen(
        command, shell=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )
    begin, ready, seen = time.monotonic(), threading.Event(), []

    def drain():
        for line in process.stdout:
            seen.append(line)
            print("    | " + line.rstrip(), flush=True)
            if "ready" in line.lower():
                ready.set()
        ready.set()

    threading.Thread(target=drain, daemon=True).start()
    if not ready.wait(READY_SECONDS + 5) or process.poll() is not None:
        fail(f"{command.strip()!r} did not become ready:\n{''.join(seen)}")
    took = time.monotonic() - begin
    print(f"    ready after {took:.1f} s", flush=True)
    if took > READY_SECONDS:
        fail(f"{command.strip()!r} took {took:.1f} s, the README promises {READY_SECONDS} s")
    return process


def attempt(script):
    """Runs a block line by line and compares what lines print with their `#=>`."""
    lines, index = script.strip().split("\n"), 0
    while index < len(lines):
        command = lines[index]
        while command.endswith("\\"):
            index += 1
            command = command[:-1] + lines[index].strip()
        index += 1
        expected = []
        while index < len(lines) and lines[index].startswith("#=> "):
            expected.append(lines[index][4:])
            index += 1
        if not command.strip() or command.startswith("#"):
            continue
        print("  $ " + command, flush=True)
        done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120)
        output = done.stdout.strip()
        print("\n".join("    | " + line for line in output.split("\n")[:20]), flush=True)
        if done.returncode != 0:
            fail(f"{command!r} exited with {done.returncode}: {done.stderr.strip()}")
        for text in expected:
            if text not in output:
                fail(f"{command!r} printed {output!r}, the README says {text!r}")


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    os.chdir(os.path.dirname(here))
    with open("README.md", encoding="utf-8") as file:
        all_blocks = list(blocks(file.read()))
    if sys.argv[1:2] == ["--print"]:
        print("\n".join(script.strip() for word, script in all_blocks if word == sys.argv[2]))
        return
    running, ran = [], 0
    for word, script in all_blocks:
        if word == "run":
            running.append(start(script))
        elif word in ("try", "build"):
            attempt(script)
        else:
            continue
        ran += 1
    for process in running:
        process.stdin.write("quit\n")
        process.stdin.flush()
        if process.wait(30) != 0:
            fail(f"the server exited with {process.returncode}")
    if ran == 0:
        fail("no command was run")
    print(f"README: {ran} blocks did what it says", flush=True)


if __name__ == "__main__":
    main()
