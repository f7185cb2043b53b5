#!/bin/sh
# Stands for guestfish in tests: reads its language from standard input, answers
# from the folder FACTS, and writes what it was told to LOG. What it "changes" it
# writes to the overlay with qemu-io when it is shut down.
facts=@FACTS@
for image do :; done # the last argument
fail() { echo "libguestfs: error: $1" >&2; exit 1; }
changed=
while IFS= read -r line; do
	printf '%s\n' "$line" >> "$facts/log"
	case $line in
	'!echo '*) echo "${line#!echo }"; continue ;;
	esac
	command=${line%% *}
	if [ -e "$facts/fail" ] && grep -qF -- "$command" "$facts/fail"; then fail "it was told to fail in $command"; fi
	case $line in
	run) [ ! -e "$facts/hang" ] || { echo $$ > "$facts/hanging"; sleep 600; } ;;
	list-filesystems) printf '/dev/sda1: ext4\n' ;;
	-vfs-uuid*) echo u-root ;;
	inspect-os) cat "$facts/roots" ;;
	inspect-get-type*) echo linux ;;
	inspect-get-distro*) echo debian ;;
	-inspect-get-product-name*) echo 12.15 ;;
	inspect-get-major-version*) echo 12 ;;
	-inspect-get-minor-version* | inspect-get-minor-version*) echo 15 ;;
	inspect-get-arch*) echo x86_64 ;;
	inspect-get-mountpoints*) echo '/: /dev/sda1' ;;
	is-file*) echo true ;;
	'sh "sh /var/tmp/inspect'*) cat "$facts/facts" ;;
	'upload '*) changed=yes ;;
	'sh "( '*) printf 'no end of line' ;;
	shutdown)
		if [ -n "$changed" ] && grep -q '^mount-options ' "$facts/log"; then
			qemu-io -f qcow2 -c 'write -P 0x77 1048576 4096' "$image" >/dev/null || fail 'write'
		fi
		;;
	esac
done
