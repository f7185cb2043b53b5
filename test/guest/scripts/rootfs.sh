#!/bin/sh
# rootfs.sh KIND OUT.tar: a lean Debian guest whose initramfs knows VMware's
# drivers only, as a tar. KIND is bios, uefi or lvm. As root. The generic
# kernel, since the cloud kernel has nvme built in.
set -eu
kind=$1 out=$2
tmp=$(mktemp -d "${TMPDIR:-/tmp}/guest-rootfs.XXXXXX")
root=$tmp/root
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM

exclude=
for d in sound drivers/gpu drivers/media drivers/net/wireless drivers/net/ethernet/mellanox drivers/infiniband \
	drivers/staging drivers/usb drivers/iio drivers/hwmon drivers/isdn drivers/bluetooth net/bluetooth net/wireless \
	net/mac80211 drivers/input/touchscreen fs/ocfs2 fs/ceph fs/nfs fs/nfsd fs/cifs fs/ntfs3; do
	exclude="$exclude --dpkgopt=path-exclude=/lib/modules/*/kernel/$d/*"
done
# acpid for the power button, which is how QEMU asks a guest to shut down;
# sqlite3 for the load.
base=systemd-sysv,udev,kmod,linux-image-amd64,e2fsprogs,iproute2,zstd,acpid,sqlite3
case $kind in
bios) packages=$base,initramfs-tools,grub-pc ;;
uefi) packages=$base,initramfs-tools,grub-efi-amd64 ;;
lvm) packages=$base,dracut,lvm2,xfsprogs,grub-pc,dbus ;;
*) echo "rootfs.sh: no guest is called $kind" >&2; exit 2 ;;
esac
if [ "$kind" = lvm ]; then
	seed='mkdir -p "$1/etc/dracut.conf.d"
printf "hostonly=\"yes\"\ndrivers+=\" vmw_pvscsi vmxnet3 sd_mod xfs \"\nadd_dracutmodules+=\" lvm dm \"\n" > "$1/etc/dracut.conf.d/10-vmware.conf"'
else
	seed='mkdir -p "$1/etc/initramfs-tools/conf.d"
printf "MODULES=list\nBUSYBOX=n\nCOMPRESS=zstd\n" > "$1/etc/initramfs-tools/conf.d/vmware"
printf "vmw_pvscsi\nvmxnet3\nsd_mod\next4\n" > "$1/etc/initramfs-tools/modules"'
fi
# shellcheck disable=SC2086
mmdebstrap --variant=minbase --mode=root --include=$packages \
	--aptopt='APT::Install-Recommends "false"' --dpkgopt=force-unsafe-io \
	--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
	$exclude --essential-hook="$seed
echo 'grub-pc grub-pc/install_devices_empty boolean true' | chroot \"\$1\" debconf-set-selections" \
	bookworm "$root"

echo "guest-$kind" > "$root/etc/hostname"
# A network as administrators of VMware guests set it up: by name, fixed.
mkdir -p "$root/etc/systemd/network" "$root/etc/udev/rules.d"
printf '[Match]\nName=ens192\n\n[Network]\nAddress=192.0.2.10/24\nGateway=192.0.2.1\n' > "$root/etc/systemd/network/10-ens192.network"
printf 'SUBSYSTEM=="net", ACTION=="add", ATTR{address}=="00:50:56:aa:bb:cc", NAME="ens192"\n' > "$root/etc/udev/rules.d/70-persistent-net.rules"
mkdir -p "$root/etc/acpi/events" "$root/usr/local/sbin" "$root/etc/systemd/system"
printf 'event=button/power.*\naction=/sbin/poweroff\n' > "$root/etc/acpi/events/power"
# The second serial line is for what follows alone: after a conversion the first
# one is the console of kernel and systemd.
cat > "$root/usr/local/sbin/probe-ready" <<'P'
#!/bin/sh
# Tells what came up, and what of the load's work is there.
if ls /etc/systemd/network/*ec2* >/dev/null 2>&1; then
	i=0
	while [ $i -lt 60 ]; do ip -4 -o addr show scope global | grep -q inet && break; sleep 1; i=$((i + 1)); done
fi
dmesg | sed -n 's/^\[[^]]*\] *//; /EXT4-fs\|XFS\|JBD2\|recover/s/^/PROBE-KERNEL /p'
# What a conversion has changed at least: what it puts is held against that.
echo "PROBE-CHANGED $(cat /boot/initr* /boot/grub/grub.cfg /boot/efi/EFI/BOOT/* 2>/dev/null | wc -c)"
systemctl --no-pager --plain list-units 'systemd-fsck*' --all --no-legend | sed 's/^ */PROBE-FSCK /'
if [ -s /srv/load.db ]; then
	for f in /srv/files/*; do
		case $f in *.new) ;; *) echo "PROBE-FILE ${f##*/} $(sha256sum < "$f" | cut -c1-64)" ;; esac
	done
	[ ! -e /srv/load.db-wal ] || echo "PROBE-WAL $(stat -c %s /srv/load.db-wal)"
	sqlite3 /srv/load.db <<'Q'
SELECT 'PROBE-ENTRY ' || n || ' ' || chain FROM entries ORDER BY n;
SELECT 'PROBE-WRONG ' || n FROM (SELECT n, chain,
	lower(hex(sha3(coalesce(lag(chain) OVER (ORDER BY n), '') || hex(body)))) AS right FROM entries) WHERE chain <> right;
SELECT 'PROBE-TOTAL ' || n || ' ' || bytes || ' ' || (SELECT count(*) FROM entries) || ' ' || (SELECT sum(length(body)) FROM entries) FROM total;
SELECT 'PROBE-INTEGRITY ' || integrity_check FROM pragma_integrity_check;
Q
fi
# What still starts now, but what waits for this probe, would not be counted.
i=0
while [ $i -lt 30 ] && systemctl list-jobs --no-legend | grep -v 'probe-ready\|load.service\|multi-user\|graphical\|update-utmp-runlevel' | grep -q running; do sleep 1; i=$((i + 1)); done
state=$(systemctl --failed --no-legend --plain | awk '{printf "%s,", $1}')
echo "PROBE-READY root=$(findmnt -no SOURCE /) fs=$(findmnt -no FSTYPE /) kernel=$(uname -r) ip=$(ip -4 -o addr show scope global | awk '{printf "%s:%s,", $2, $4}') failed=$state cmdline=$(cat /proc/cmdline)"
P
cat > "$root/usr/local/sbin/load" <<'P'
#!/bin/sh
# Writes to a database and files for as long as it runs, and tells what is
# committed only once it is. Each entry's chain is the digest of its body and of
# the entry before it: one stands for all up to it.
mkdir -p /srv/files
rm -f /run/load /srv/files/*.new
mkfifo /run/load
sqlite3 /srv/load.db < /run/load &
exec 3> /run/load
cat >&3 <<'Q'
.bail on
.output /dev/null
PRAGMA journal_mode = WAL;
.output stdout
PRAGMA synchronous = FULL;
PRAGMA wal_autocheckpoint = 100;
CREATE TABLE IF NOT EXISTS entries (n INTEGER PRIMARY KEY, body BLOB NOT NULL, chain TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS total (id INTEGER PRIMARY KEY CHECK (id = 1), n INTEGER NOT NULL, bytes INTEGER NOT NULL);
INSERT OR IGNORE INTO total VALUES (1, 0, 0);
Q
stop=
trap 'stop=1' TERM
i=0
while [ -z "$stop" ]; do
	cat >&3 <<'Q'
BEGIN IMMEDIATE;
INSERT INTO entries SELECT coalesce(max(n), 0) + 1, randomblob(1000 + abs(random() % 6000)), '' FROM entries;
UPDATE entries SET chain = lower(hex(sha3(coalesce((SELECT before.chain FROM entries AS before WHERE before.n = entries.n - 1), '') || hex(body))))
	WHERE n = (SELECT max(n) FROM entries);
UPDATE total SET n = n + 1, bytes = bytes + (SELECT length(body) FROM entries ORDER BY n DESC LIMIT 1);
COMMIT;
SELECT 'LOAD-ENTRY ' || n || ' ' || chain FROM entries ORDER BY n DESC LIMIT 1;
Q
	i=$((i + 1))
	if [ $((i % 8)) = 0 ]; then
		f=/srv/files/$(date +%s%N)
		head -c $((20000 + i % 97 * 1000)) /dev/urandom > "$f.new"
		sync "$f.new" && mv "$f.new" "$f" && sync /srv/files && echo "LOAD-FILE ${f##*/} $(sha256sum < "$f" | cut -c1-64)"
	fi
	sleep 0.1
done
exec 3>&-
wait
echo LOAD-STOPPED
P
chmod 755 "$root/usr/local/sbin/probe-ready" "$root/usr/local/sbin/load"
cat > "$root/etc/systemd/system/probe-ready.service" <<'P'
[Unit]
After=local-fs.target systemd-networkd.service
[Service]
Type=oneshot
ExecStart=/usr/local/sbin/probe-ready
StandardOutput=tty
StandardError=inherit
TTYPath=/dev/ttyS1
[Install]
WantedBy=multi-user.target
P
cat > "$root/etc/systemd/system/load.service" <<'P'
[Unit]
After=probe-ready.service
[Service]
ExecStart=/usr/local/sbin/load
KillMode=mixed
StandardOutput=tty
StandardError=inherit
TTYPath=/dev/ttyS1
[Install]
WantedBy=multi-user.target
P
chroot "$root" systemctl enable probe-ready.service load.service systemd-networkd.service acpid.service
# No console on the serial line but the probe's, as VMware guests have it.
sed -i 's/^GRUB_TIMEOUT=.*/GRUB_TIMEOUT=0/; s/^GRUB_CMDLINE_LINUX_DEFAULT=.*/GRUB_CMDLINE_LINUX_DEFAULT="quiet"/' "$root/etc/default/grub"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root/etc/resolv.conf"
tar -C "$root" -cf "$out" --numeric-owner --xattrs .
