#!/usr/bin/env python3
"""Runs every client against stock Kafka and against the proxy; their transcripts must agree (README.md)."""

import argparse
import concurrent.futures
import contextlib
import difflib
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
LIVE = set()


def end(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def interrupted(*_):
    """The clients have sessions of their own, so Ctrl-C does not reach them; leave nothing running."""
    for process in list(LIVE):
        end(process)
    os._exit(130)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stock", required=True, metavar="HOST:PORT", help="a stock broker; may be of the same cluster")
    parser.add_argument("--proxy", required=True, metavar="HOST:PORT", help="an endpoint of the proxy")
    parser.add_argument("--only", action="append", metavar="CLIENT[,CLIENT]", help="these clients only")
    parser.add_argument("--keep", action="store_true", help="keep the topics and the transcripts")
    parser.add_argument("--prefix", default="matrix", help="proxied topics are PREFIX.diskless.* and PREFIX.classic.*")
    parser.add_argument("--timeout", type=int, default=180, metavar="SECONDS", help="for one client on one side")
    return parser.parse_args()


def setup(clients):
    """Installs the clients; returns those skipped, with the reason."""
    done = subprocess.run([HERE / "setup.sh", *clients], stdout=subprocess.PIPE, text=True,
                          env={**os.environ, "CI": ""})
    if done.returncode:
        sys.exit(done.returncode)
    lines = [line.split(": ", 2) for line in done.stdout.splitlines() if line.startswith("skipped: ")]
    return {client: why for _, client, why in lines}


class Side:
    """One of the two clusters as a client sees it. The prefixes differ, for both may be the same cluster."""

    def __init__(self, name, bootstrap, prefix, folder):
        self.name, self.bootstrap, self.prefix, self.folder = name, bootstrap, prefix, folder

    def topics_of(self, client):
        return [f"{self.prefix}.{kind}.{client}" for kind in ("diskless", "classic")]

    def topics(self, action, clients):
        names = [topic for client in clients for topic in self.topics_of(client)]
        done = subprocess.run([HERE / "run.sh", "topics", action, self.bootstrap, *names], stderr=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"{self.name}: cannot {action} the topics\n{done.stderr}")

    def run(self, client, timeout):
        """The transcript's lines, the seconds it took, and what went wrong, if anything."""
        transcript, errors = self.folder / f"{client}.{self.name}", self.folder / f"{client}.{self.name}.err"
        run = f"{self.name}-{client}-{os.getpid()}-{int(time.time())}"
        begin = time.monotonic()
        with transcript.open("w") as out, errors.open("w") as err:
            # A session of its own, so that a client that hangs is ended with its children.
            process = subprocess.Popen([HERE / "run.sh", client, self.bootstrap, run, *self.topics_of(client)],
                                       stdout=out, stderr=err, stdin=subprocess.DEVNULL, start_new_session=True)
            LIVE.add(process)
            try:
                code = process.wait(timeout)
                failure = f"exit code {code}" if code else None
            except subprocess.TimeoutExpired:
                end(process)
                process.wait()
                failure = f"not done after {timeout} s"
            LIVE.discard(process)
        if failure:
            failure += "\n" + "\n".join(errors.read_text(errors="replace").splitlines()[-25:])
        return transcript.read_text(errors="replace").splitlines(), time.monotonic() - begin, failure


def compare(client, stock, proxy, timeout):
    expected, stock_seconds, stock_failure = stock.run(client, timeout)
    if stock_failure:
        # Nothing to compare with: the fault is in the test bed, and is one all the same.
        return "BROKEN", stock_seconds, 0, 0, f"on stock: {stock_failure}"
    got, proxy_seconds, proxy_failure = proxy.run(client, timeout)
    # A client that stopped early has no output for the remaining steps.
    comparable = expected[:len(got) + 2] if proxy_failure else expected
    report = list(difflib.unified_diff(comparable, got, "stock", "proxy", lineterm="", n=2))
    if proxy_failure:
        report.append(f"through the proxy: {proxy_failure}")
    if not expected:
        report.append("the transcript is empty")
    return "DIFFER" if report else "agree", stock_seconds, proxy_seconds, len(expected), "\n".join(report)


def main():
    args = arguments()
    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGTERM, interrupted)
    known = subprocess.run([HERE / "list"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    clients = [name for names in args.only for name in names.split(",")] if args.only else known
    if unknown := set(clients) - set(known):
        sys.exit(f"no such client: {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
    skipped = setup(clients)
    if subprocess.run([HERE / "setup.sh", "java"], stdout=subprocess.DEVNULL, env={**os.environ, "CI": "true"}).returncode:
        sys.exit("the harness creates its topics with the Java client; see `setup.sh java`")
    runnable = [client for client in clients if client not in skipped]
    folder = pathlib.Path(tempfile.mkdtemp(prefix="odradek-matrix-"))
    stock, proxy = Side("stock", args.stock, "stock", folder), Side("proxy", args.proxy, args.prefix, folder)
    results = {}
    for side in (stock, proxy):
        side.topics("create", runnable)
    with concurrent.futures.ThreadPoolExecutor(int(os.environ.get("JOBS", "2"))) as pool:
        running = {pool.submit(compare, client, stock, proxy, args.timeout): client for client in runnable}
        for done in concurrent.futures.as_completed(running):
            client = running[done]
            results[client] = done.result()
            print(f"{client}: {results[client][0]}", file=sys.stderr, flush=True)
    for client in clients:
        if client in results and results[client][4]:
            print(f"\n--- {client}\n{results[client][4]}")
    print(f"\n{'client':26}{'result':10}{'facts':>6}{'stock s':>9}{'proxy s':>9}")
    for client in clients:
        if client in skipped:
            print(f"{client:26}skipped: {skipped[client]}")
        else:
            result, stock_seconds, proxy_seconds, facts, _ = results[client]
            print(f"{client:26}{result:10}{facts:6}{stock_seconds:9.1f}{proxy_seconds:9.1f}")
    bad = [client for client, result in results.items() if result[0] != "agree"]
    if args.keep or bad:
        print(f"transcripts: {folder}")
    else:
        subprocess.run(["rm", "-r", str(folder)], check=True)
    if not args.keep:
        for side in (stock, proxy):
            side.topics("delete", runnable)
    sys.exit(bool(bad) or bool(skipped and os.environ.get("CI") == "true"))


if __name__ == "__main__":
    main()
