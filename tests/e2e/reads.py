#!/usr/bin/env python3
"""Judges what the checker has read.

    kubectl logs --timestamps ... | reads.py IDENTITIES

IDENTITIES is a file with the emulator's /_emulator/identities. Fails unless the pod read about once a second
and every read was a living token, except for one gap after a revocation: from the revocation until the next
token was issued (the operator's part), and until the kubelet brought it (its lag). Prints what it measured.
"""
import json, sys
from datetime import datetime

# The operator issues in a later second of the service's clock than the revocation's; the rest is for two busy cores.
OPERATORS_GAP = 5
# Twice the node's `syncFrequency`, the second between two reads, and room for two busy cores.
KUBELETS_LAG = 10


def at(text):
    return datetime.fromisoformat(text[:26].rstrip("Z") + "+00:00" if "." in text else text.replace("Z", "+00:00")).timestamp()


def main():
    tokens = {}
    for identity in json.load(open(sys.argv[1])):
        for token in identity["tokens"]:
            tokens.setdefault(token["issuedAt"], token)
    reads = []
    for line in sys.stdin:
        time, _, answer = line.partition(" ")
        reads.append((at(time), json.loads(answer)))
    errors = []
    spent = reads[-1][0] - reads[0][0]
    pause = max(later[0] - earlier[0] for earlier, later in zip(reads, reads[1:]))
    print(f"    {len(reads)} reads in {spent:.0f} s, never more than {pause:.1f} s apart")
    if len(reads) < 60 or len(reads) < 0.8 * spent / 1.1 or pause > 5:
        errors.append("the pod did not read once a second, so this proves nothing")

    order, lags = [], []
    for time, answer in reads:
        issued = answer["issuedAt"]
        if issued and (not order or order[-1] != issued):
            if order:
                lags.append(time - at(issued))
            order.append(issued)
    print(f"    {len(order)} tokens; from their issue until the pod read them: {min(lags):.1f} to {max(lags):.1f} s")
    if max(lags) > KUBELETS_LAG:
        errors.append(f"a token reached the pod after {max(lags):.1f} s, more than {KUBELETS_LAG} s")

    dead = [(time, answer) for time, answer in reads if not answer["valid"]]
    gaps = set()
    for time, answer in dead:
        issued = answer["issuedAt"]
        token = tokens.get(issued, {})
        if answer["reason"] != "revoked" or not token.get("revokedAt"):
            errors.append(f"read a dead token at {datetime.fromtimestamp(time):%H:%M:%S}: {answer['reason']}, issued {issued}")
            continue
        revoked = at(token["revokedAt"])
        following = [it for it in order if at(it) >= revoked and it != issued]
        if not following:
            errors.append("a revoked token was never followed by another one")
            continue
        gaps.add((revoked, at(following[0])))
        if time > at(following[0]) + KUBELETS_LAG:
            errors.append(f"read a revoked token {time - at(following[0]):.1f} s after the next one was issued")
    for revoked, issued in gaps:
        count = len(dead)
        until = min(time for time, answer in reads if time > revoked and answer["valid"])
        print(f"    narrowed: {count} dead reads, {until - revoked:.1f} s from the revocation until a good read; "
              f"of these the operator took {issued - revoked:.1f} s to issue the next token, the kubelet {until - issued:.1f} s")
        if issued - revoked > OPERATORS_GAP:
            errors.append(f"the operator left {issued - revoked:.1f} s between the revocation and the next token")
    if len(gaps) != 1:
        errors.append(f"expected one gap, of the narrowed scope; there are {len(gaps)}")
    for error in errors[:5]:
        print(f"reads: {error}", file=sys.stderr)
    sys.exit(1 if errors else 0)


main()
