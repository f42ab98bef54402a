#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
# Each transition that the tables of doc/protocol.md name is named in the code and in a model. The steps of a restart (H) change no
# word of a segment, and no model has them.

dir=${PGLEASE_SRCDIR:-$(cd "$(dirname "$0")/../.." && pwd)}
cd "$dir" || exit 1
n=0
failed=0
for label in $(sed -n 's/^| \([A-Z][0-9][0-9]*\) |.*/\1/p' doc/protocol.md); do
	for where in src tests/model; do
		case $label:$where in H*:tests/model) continue ;; esac
		n=$((n + 1))
		case $where in
		src) name="*.[ch]" ;;
		*) name="*.pml" ;;
		esac
		if find "$where" -name "$name" -exec grep -lw "$label" {} + | grep -q .; then
			echo "ok $n - $label is named in $where"
		else
			echo "not ok $n - $label is not named in $where"
			failed=1
		fi
	done
done
[ "$n" -gt 60 ] || failed=1 # the tables were read
echo "1..$n"
exit $failed
