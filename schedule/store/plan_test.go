package store_test

import (
	"context"
	"strings"
	"testing"

	"snapferry/schedule/store"
	"snapferry/test/database"
)

// What is asked often uses an index, also in a database that was never
// analysed: there may be hundreds of thousands of runs. SQLite tells its plan;
// PostgreSQL's depends on how much there is.
func TestQueriesUseIndexes(t *testing.T) {
	t.Parallel()
	db := open(t, database.SQLite(t))
	for what, uses := range map[string]string{
		"scene": "SCAN r USING INDEX run_open", "unended": "SCAN run USING INDEX run_open", "active": "SCAN run USING INDEX run_open",
		"of VM": "SEARCH run USING INDEX run_vm", "failed": "SEARCH run USING INDEX run_state", "newest": "SCAN run",
		"launches": "SCAN launch_run", "active launches": "SCAN launch_run USING INDEX launch_run_open", "launches of VM": "SEARCH launch_run USING INDEX launch_run_vm",
		"launches of wave": "SEARCH launch_run USING INDEX launch_run_wave", "claimable": "SEARCH r USING INDEX launch_run_open",
		"provings": "CO-ROUTINE", "jobs": "SCAN launch_job USING INDEX launch_job_made", "open jobs": "SCAN launch_job USING INDEX launch_job_open",
		"jobs of VM": "SEARCH launch_job USING INDEX launch_job_vm", "open jobs of VM": "SEARCH launch_job USING INDEX launch_job_open",
		"due": "SEARCH v USING INDEX vm_due",
	} {
		query := store.Queries()[what]
		args := []any{1, 2, 3}[:strings.Count(query, "$")]
		rows, err := db.SQL().QueryContext(context.Background(), `EXPLAIN QUERY PLAN `+query, args...)
		must(t, err)
		var plan []string
		for rows.Next() {
			var a, b, c int
			var step string
			must(t, rows.Scan(&a, &b, &c, &step))
			plan = append(plan, step)
		}
		must(t, rows.Err())
		rows.Close()
		if !strings.HasPrefix(plan[0], uses) || ((what == "newest" || what == "launches") && len(plan) > 1) {
			t.Errorf("%s: the plan is %q, want %s", what, plan, uses)
		}
	}
}
