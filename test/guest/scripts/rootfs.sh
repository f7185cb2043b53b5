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
base=systemd-sysv,udev,kmod,linux-image-amd64,e2fsprogs,iproute2,zstd
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
cat > "$root/usr/local/sbin/probe-ready" <<'P'
#!/bin/sh
# Tells the serial line what came up.
if ls /etc/systemd/network/*ec2* >/dev/null 2>&1; then
	i=0
	while [ $i -lt 60 ]; do ip -4 -o addr show scope global | grep -q inet && break; sleep 1; i=$((i + 1)); done
fi
state=$(systemctl --failed --no-legend --plain | awk '{printf "%s,", $1}')
echo "PROBE-READY root=$(findmnt -no SOURCE /) fs=$(findmnt -no FSTYPE /) kernel=$(uname -r) ip=$(ip -4 -o addr show scope global | awk '{printf "%s:%s,", $2, $4}') failed=$state cmdline=$(cat /proc/cmdline)" > /dev/ttyS0
P
chmod 755 "$root/usr/local/sbin/probe-ready"
cat > "$root/etc/systemd/system/probe-ready.service" <<'P'
[Unit]
After=local-fs.target systemd-networkd.service
[Service]
Type=oneshot
ExecStart=/usr/local/sbin/probe-ready
[Install]
WantedBy=multi-user.target
P
chroot "$root" systemctl enable probe-ready.service systemd-networkd.service
# No console on the serial line but the probe's, as VMware guests have it.
sed -i 's/^GRUB_TIMEOUT=.*/GRUB_TIMEOUT=0/; s/^GRUB_CMDLINE_LINUX_DEFAULT=.*/GRUB_CMDLINE_LINUX_DEFAULT="quiet"/' "$root/etc/default/grub"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root/etc/resolv.conf"
tar -C "$root" -cf "$out" --numeric-owner --xattrs .
