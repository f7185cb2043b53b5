package ebs

import "fmt"

// Dollars is an amount in millionths of a US dollar.
type Dollars int64

// Prices of one request, from the AWS facts: $0.006 per 1,000 puts and $0.003
// per 1,000 gets (us-east-1; other regions differ by little). Storage is not
// in them.
const (
	putPrice Dollars = 6
	getPrice Dollars = 3
)

// PutCost is what n PutSnapshotBlock requests cost: $12.58 for a full TiB.
func PutCost(n int64) Dollars { return Dollars(n) * putPrice }

// GetCost is what n GetSnapshotBlock requests cost.
func GetCost(n int64) Dollars { return Dollars(n) * getPrice }

// String is the amount in dollars and cents, rounded to the nearest cent; what
// is less than a cent but not nothing is "< $0.01".
func (d Dollars) String() string {
	const cent = 10_000
	if d > 0 && d < cent {
		return "< $0.01"
	}
	cents := (d + cent/2) / cent
	return fmt.Sprintf("$%d.%02d", cents/100, cents%100)
}
