package ebs

import (
	"io"
	"testing"
	"time"

	"snapferry/test/aws"
	"snapferry/test/suite"
	"snapferry/transfer"
)

// TestContract holds the store against the contract that the memory fake
// obeys, over the wire.
func TestContract(t *testing.T) {
	useEnv(t, newEmulator(t, aws.Options{}).Env()...) // the credentials are the same for all
	suite.Store(t, func(t *testing.T) suite.StoreWorld {
		e := newEmulator(t, aws.Options{})
		timing := fast
		timing.Settings = time.Nanosecond // the suite switches the account's default
		store, err := Open(t.Context(), Config{EBSEndpoint: e.EBSEndpoint(), EC2Endpoint: e.EC2Endpoint(), STSEndpoint: e.STSEndpoint(), Timing: timing})
		if err != nil {
			t.Fatal(err)
		}
		return suite.StoreWorld{
			Store: store,
			Image: func(id transfer.SnapshotID) (io.ReaderAt, int64) {
				image, size, err := e.Image(string(id))
				if err != nil {
					t.Fatal(err)
				}
				return image, size
			},
			Remove:           func(id transfer.SnapshotID) { e.DeleteOutOfBand(string(id)) },
			EncryptByDefault: e.SetEncryptionByDefault,
		}
	})
}
