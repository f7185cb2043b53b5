package store_test

import (
	"fmt"
	"reflect"
	"testing"

	"snapferry/schedule"
	"snapferry/schedule/store"
	"snapferry/test/database"
)

// A clone shares nothing with its original that could be changed: also not
// what is added to transfer.VM one day.
func TestClone(t *testing.T) {
	m := machine(2)
	fill(reflect.ValueOf(&m).Elem())
	c := store.Clone(m)
	equal(t, "clone", c, m)
	shared(t, "VM", reflect.ValueOf(m), reflect.ValueOf(c))
}

// fill makes empty slices, maps and pointers non-empty.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Slice:
		if v.Len() == 0 {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		}
		for i := range v.Len() {
			fill(v.Index(i))
		}
	case reflect.Map:
		if v.Len() == 0 {
			v.Set(reflect.MakeMap(v.Type()))
		}
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		fill(v.Elem())
	}
}

func shared(t *testing.T, where string, a, b reflect.Value) {
	switch a.Kind() {
	case reflect.Struct:
		for i := range a.NumField() {
			shared(t, where+"."+a.Type().Field(i).Name, a.Field(i), b.Field(i))
		}
	case reflect.Slice:
		if a.Pointer() == b.Pointer() {
			t.Errorf("%s is shared", where)
		}
		for i := range a.Len() {
			shared(t, fmt.Sprintf("%s[%d]", where, i), a.Index(i), b.Index(i))
		}
	case reflect.Map, reflect.Pointer:
		if a.Pointer() == b.Pointer() {
			t.Errorf("%s is shared", where)
		}
	}
}

// A cache that is smaller than the fleet is slow, not wrong.
func TestSmallCache(t *testing.T) {
	t.Parallel()
	db := open(t, database.SQLite(t))
	db.CacheFacts(7)
	fleet(t, db, 10)
	got[schedule.VM](t)(db.VM(t.Context(), id(3)))
	for range 3 {
		for i, vm := range got[[]schedule.VM](t)(db.VMs(t.Context(), "")) {
			equal(t, "VM", vm.VM, machine(i))
		}
		got[schedule.VM](t)(db.VM(t.Context(), id(9)))
	}
}
