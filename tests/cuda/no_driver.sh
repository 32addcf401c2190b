#!/bin/sh
# PROGRAM ends with 2 and one line on stderr where there is no GPU, with 0 where there is one.
"$1" >/dev/null 2>"$1.txt"
status=$?
cat "$1.txt"
case $status in
  0) echo "there is a GPU" ;;
  2) [ "$(wc -l <"$1.txt")" -eq 1 ] && grep -q 'CUDA call failed' "$1.txt" ;;
  *) exit 1 ;;
esac
