package vcenter

import (
	"errors"
)

// zeroStep is how much of a disk is zeroed while the guest's other requests wait.
const zeroStep = 64 << 20

// Zero is the guest's write of zeroes to n bytes from off; with discard, its
// UNMAP, after which what is covered whole takes no space any more where no
// snapshot is below it. Change tracking sees both as writes.
func (d *Disk) Zero(off, n int64, discard bool) error {
	for {
		step := min(n, zeroStep)
		if err := d.zeroStep(off, step, discard); err != nil || step == n {
			return err
		}
		off, n = off+step, n-step
	}
}

func (d *Disk) zeroStep(off, n int64, discard bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.inside("zero", off, n); err != nil || n == 0 {
		return err
	}
	defer d.wrote(off, n)
	first, end := (off+grain-1)/grain, (off+n)/grain // of the grains covered whole
	if off+n == d.size {
		end = (d.size + grain - 1) / grain
	}
	if first >= end {
		return d.writeZeroes(off, off+n)
	}
	if err := errors.Join(d.writeZeroes(off, first*grain), d.writeZeroes(min(end*grain, d.size), off+n)); err != nil {
		return err
	}
	return d.zeroGrains(first, end, discard)
}

func (d *Disk) writeZeroes(from, to int64) error {
	for from < to {
		n := min(to-from, grain)
		if err := d.top.write(noGrain[:n], from, &d.locks); err != nil {
			return err
		}
		from += n
	}
	return nil
}

var noGrain [grain]byte

// punchFrom is from how many bytes on a hole is made in the file, which the host's
// file system makes a transaction of; less is written.
const punchFrom = 1 << 20

// zeroGrains zeroes the grains [first, end).
func (d *Disk) zeroGrains(first, end int64, discard bool) error {
	l, stop := d.top, min(end*grain, d.size)
	err := errors.ErrUnsupported
	if stop-first*grain >= punchFrom {
		err = punch(l.file, first*grain, stop-first*grain)
	}
	if errors.Is(err, errors.ErrUnsupported) {
		err = d.writeZeroes(first*grain, stop)
	}
	if err != nil {
		return err
	}
	for g := first; g < end; g++ {
		if discard && l.parent == nil {
			l.held.drop(g)
		} else {
			l.held.add(g)
		}
	}
	return nil
}

// Area is a part of a disk that is allocated as a whole, or not at all.
type Area struct {
	Offset, Length int64
	Allocated      bool // else it reads as zeroes
}

// Areas describes what the guest's disk holds of the n bytes from off.
func (d *Disk) Areas(off, n int64) ([]Area, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if err := d.inside("look at", off, n); err != nil {
		return nil, err
	}
	var all []Area
	for stop := off + n; off < stop; {
		end := min((off/grain+1)*grain, stop)
		own := d.top.owner(off / grain)
		is := own.held.has(off / grain)
		if k := len(all) - 1; k >= 0 && all[k].Allocated == is {
			all[k].Length += end - off
		} else {
			all = append(all, Area{off, end - off, is})
		}
		off = end
	}
	return all, nil
}
