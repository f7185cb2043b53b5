package memory_test

import (
	"io"
	"testing"

	"snapferry/test/memory"
	"snapferry/test/suite"
	"snapferry/transfer"
)

func TestStore(t *testing.T) {
	suite.Store(t, func(*testing.T) suite.StoreWorld {
		s := memory.NewStore()
		return suite.StoreWorld{
			Store: s, Image: s.Image, Remove: s.Remove,
			EncryptByDefault: func(on bool) { s.DefaultEncryption = on },
		}
	})
}

func TestSource(t *testing.T) {
	suite.Source(t, func(*testing.T) suite.SourceWorld {
		vm := memory.NewVM("app01", 3<<20, 1<<20+512)
		return suite.SourceWorld{
			Source: vm,
			Guest: func(id transfer.DiskID) interface {
				io.ReaderAt
				io.WriterAt
			} {
				return vm.Disk(int(id.Key - 2000))
			},
			ResetCBT: func() { vm.Disk(0).ResetCBT(); vm.Disk(1).ResetCBT() },
			Left:     vm.Left,
		}
	})
}
