"""One policy against another on every SWF log of a folder: ratios per log, then geometric means.

    python3 tests/sim/compare_policies.py FOLDER [--policy reeve] [--against easy]

Logs on which the other policy's mean wait is under a minute are not loaded: shown, but left out of
the means.
"""

import argparse
import glob
import json
import math
import os
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
REEVE = os.environ.get("REEVE_BINARY", os.path.join(HERE, "../../build/release/cli/reeve"))
RATIOS = "bsld_mean wait_mean wait_max wait_p95".split()


def figures(log, policy):
    done = subprocess.run([REEVE, "sim", "--swf", log, "--policy", policy, "--json"], check=True,
                          stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--policy", default="reeve")
    parser.add_argument("--against", default="easy")
    chosen = parser.parse_args()
    loaded = []
    print("%-40s %9s %9s %9s %9s %12s" % ("log", *RATIOS, "use, points"))
    for log in sorted(glob.glob(os.path.join(chosen.folder, "*.swf*"))):
        ours, theirs = figures(log, chosen.policy), figures(log, chosen.against)
        ratios = [ours[name] / theirs[name] if theirs[name] else math.nan for name in RATIOS]
        use = 100 * (ours["util_submit_window"] - theirs["util_submit_window"])
        print("%-40s %9.3f %9.3f %9.3f %9.3f %+12.2f" % (os.path.basename(log)[:40], *ratios, use))
        if theirs["wait_mean"] >= 60:
            loaded.append((ratios, use))
    means = [math.exp(sum(math.log(max(r[i], 1e-9)) for r, _ in loaded) / len(loaded))
             for i in range(len(RATIOS))]
    print("%-40s %9.3f %9.3f %9.3f %9.3f %+12.2f" %
          ("mean of the %d loaded" % len(loaded), *means, sum(u for _, u in loaded) / len(loaded)))


if __name__ == "__main__":
    main()
