#!/usr/bin/env bash
# websocat (cargo install websocat, 1.14): is it there, and does it answer? One connection and one request a process, so that this
# measures the start of processes; as a probe or to look at what goes over the wire it is the shortest way.
#
#     tuning/load/websocat.sh [URL [CONNECTIONS [SIDE_BY_SIDE]]]
set -euo pipefail
url=${1:-ws://127.0.0.1:7682/osrf-websocket-translator} count=${2:-200} beside=${3:-10}
export url
export request='{"service":"opensrf.math","thread":"t1","osrf_msg":[{"__c":"osrfMessage","__p":{"threadTrace":1,"type":"REQUEST","payload":{"__c":"osrfMethod","__p":{"method":"add","params":[19,23]}}}}]}'

# -n: no Close of its own when the request is out; -1: ends with the first message. The content must be the sum.
ask() { timeout 10 websocat -n1 "$url" <<<"$request" | grep -q '"content":42'; }
export -f ask

began=$(date +%s%N)
right=$(seq "$count" | xargs -P "$beside" -I{} bash -c 'ask && echo right' | wc -l || true)
echo "$right of $count answered rightly in $((($(date +%s%N) - began) / 1000000)) ms"
[ "$right" = "$count" ]
