#!/usr/bin/env bash
# The main job on the example network: an int8 build for this CPU from real pictures, its speed and accuracy beside
# float32, and the account of what a trtexec command line becomes on an NVIDIA GPU, a Journey 5 and a Journey 6M.
#
#   bash examples/demo.sh [PYTHON]       PYTHON: an interpreter with ptqbridge's dependencies
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-python3}
out=out/demo
model=examples/mynet/mynet.onnx
data=examples/mynet/calib
export COLUMNS=100 PYTHONPATH=$PWD/src
mkdir -p "$out"

ptqbridge() { "$python" -m ptqbridge "$@"; }
title() { printf '\n=== %s\n\n' "$*"; }
wrapped() { fold -s -w 100; }
show() { { printf '$ ptqbridge'; printf ' %s' "$@"; printf '\n'; } | wrapped; ptqbridge "$@" | wrapped; }

title "1. Build: int8 for this CPU, ranges from the pictures in $data"
show build --onnx=$model --int8 --calibData=$data --saveEngine=$out/mynet_int8.onnx
# For comparison: no precision option is float32, and two other ways to choose the ranges.
ptqbridge build --onnx=$model --saveEngine=$out/mynet_fp32.onnx > "$out/build.log"
for method in max entropy2; do
    ptqbridge build --onnx=$model --int8 --calibData=$data --calibAlgo=$method \
        --saveEngine=$out/mynet_int8_$method.onnx >> "$out/build.log"
done

title "2. Speed, one thread, one second each (the whole trtexec log is in $out/*.log)"
for name in fp32 int8; do
    echo "$ ptqbridge run --loadEngine=$out/mynet_$name.onnx --duration=1 --intraOpThreads=1 --json"
    ptqbridge run --loadEngine=$out/mynet_$name.onnx --duration=1 --intraOpThreads=1 --json \
        > "$out/run_$name.json" 2> "$out/run_$name.log" || { tail -n 3 "$out/run_$name.log" >&2; exit 1; }
    sed -n '/=== Performance summary/,$ s/^\[[^]]*\] \[[A-Z]\] //p' "$out/run_$name.log" | wrapped
done
"$python" - "$out" <<'PYTHON'
import json, sys

median = {}
for name in ("fp32", "int8"):
    with open(f"{sys.argv[1]}/run_{name}.json", encoding="utf-8") as file:
        median[name] = json.load(file)["run"]["performance"]["latency"]["median"]
print(f"Latency int8 / fp32: {median['int8'] / median['fp32']:.2f} (medians {median['int8']:g} ms / {median['fp32']:g} ms)")
PYTHON

title "3. Accuracy on 600 test pictures the network has never seen"
"$python" examples/mynet/accuracy.py --json "$out/accuracy.json" \
    $out/mynet_fp32.onnx $out/mynet_int8.onnx $out/mynet_int8_max.onnx $out/mynet_int8_entropy2.onnx
echo
echo "The int8 default is what section 1 says. Why entropy2 does badly here: docs/calibration.md"

title "4. A trtexec command line on three chips: what becomes of every option"
article=(--onnx=static.onnx --saveEngine=static.engine --useCudaGraph --noDataTransfers --useSpinWait --infStreams=8
    --maxAuxStreams=8 --builderOptimizationLevel=5 --threads --best --verbose --profilingVerbosity=detailed
    --dumpProfile --dumpLayerInfo --separateProfileRun --avgRuns=100 --iterations=1000)
targets=(--target=trt --target=bayes --target=nash-m)
cp "$model" "$out/static.onnx"
cd "$out"
echo '$ ptqbridge explain' "${targets[*]} -- ${article[*]}" | wrapped
ptqbridge explain "${targets[@]}" -- "${article[@]}" > mapping.txt
ptqbridge explain --json "${targets[@]}" -- "${article[@]}" > mapping.json
cd - > /dev/null
cat "$out/mapping.txt"

title "Written to $out"
cat <<TEXT
mynet_int8.onnx, mynet_fp32.onnx      the artifacts (mynet_int8_max, _entropy2: other methods)
run_int8.log, run_fp32.log            the log of each run, as trtexec writes it
run_int8.json, run_fp32.json          the same for programs
accuracy.json                         section 3 for programs
mapping.txt, mapping.json             section 4, for people and for programs
build.log                             what the other builds said
TEXT
