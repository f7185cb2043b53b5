package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"snapferry/schedule"
)

const hookURL = "https://hooks.example.com/T0/s3cr3tpath"

// number is an event's ID out of a request's header.
func number(r *http.Request) string {
	return strings.Split(r.Header.Get(headerID), "_")[1]
}

func TestEventsComeInOrderAndChosen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		for range 60 { // more than two batches
			r.src.add(schedule.EventRunStart, schedule.EventRunEnd, schedule.EventStalled, schedule.EventPaused)
		}
		var all, some received
		r.start(func(c *Config) {
			c.Hooks = []Hook{{Name: "all", URL: hookURL}, {Name: "some", URL: hookURL + "/some", Events: []schedule.EventKind{schedule.EventStalled, schedule.EventRunFail}}}
			c.Client = &http.Client{Transport: trip(func(q *http.Request) (*http.Response, error) {
				to := &all
				if strings.HasSuffix(q.URL.Path, "/some") {
					to = &some
				}
				to.add(number(q))
				return respond(204), nil
			})}
		})
		time.Sleep(time.Minute)
		var wantAll, wantSome []string
		for id := 1; id <= 240; id++ {
			wantAll = append(wantAll, fmt.Sprint(id))
			if id%4 == 3 {
				wantSome = append(wantSome, fmt.Sprint(id))
			}
		}
		if got := all.list(); !slices.Equal(got, wantAll) {
			t.Errorf("all: %v", got)
		}
		if got := some.list(); !slices.Equal(got, wantSome) {
			t.Errorf("some: %v", got)
		}
		// What a hook does not want it is done with all the same.
		if at := r.cursors.of("some"); at != 240 {
			t.Errorf("the cursor of some is at %d", at)
		}
		r.src.add(schedule.EventStalled)
		time.Sleep(3 * time.Second)
		if got := some.list(); len(got) != 61 || got[60] != "241" {
			t.Errorf("a new event took longer than a poll: %v", got[60:])
		}
	})
}

func TestAnAwayReceiverIsTriedForHoursAndMissesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.src.add(schedule.EventRunStart, schedule.EventRunEnd)
		back := time.Now().Add(9 * time.Hour)
		var tries atomic.Int64
		var got, other received
		var results []Result
		r.start(func(c *Config) {
			c.Hooks = []Hook{{Name: "away", URL: hookURL}, {Name: "well", URL: hookURL + "/well"}}
			c.Observe = func(hook string, res Result) {
				if hook == "away" {
					results = append(results, res)
				}
			}
			c.Client = &http.Client{Transport: trip(func(q *http.Request) (*http.Response, error) {
				if strings.HasSuffix(q.URL.Path, "/well") {
					other.add(number(q))
					return respond(200), nil
				}
				tries.Add(1)
				if time.Now().Before(back) {
					if tries.Load()%2 == 0 {
						return respond(503), nil
					}
					return nil, errors.New("connection refused")
				}
				got.add(number(q))
				return respond(200), nil
			})}
		})
		time.Sleep(time.Minute)
		if o := other.list(); !slices.Equal(o, []string{"1", "2"}) {
			t.Errorf("the other hook was held up: %v", o)
		}
		if n := tries.Load(); n < 4 || n > 12 {
			t.Errorf("%d tries in the first minute", n)
		}
		s := r.sender.Status()[0]
		if s.Failing.IsZero() || s.LastError == "" || s.GivenUp != 0 {
			t.Errorf("status %+v", s)
		}
		time.Sleep(10 * time.Hour)
		if g := got.list(); !slices.Equal(g, []string{"1", "2"}) {
			t.Errorf("after it came back: %v", g)
		}
		// Between two and five minutes apart, once the pauses have grown.
		if n := tries.Load(); n < 9*12 || n > 9*30 {
			t.Errorf("%d tries in nine hours", n)
		}
		s = r.sender.Status()[0]
		if !s.Failing.IsZero() || s.Delivered != 2 || s.Retried != tries.Load()-2 || int64(len(results)) != tries.Load() {
			t.Errorf("status %+v, %d results", s, len(results))
		}
	})
}

func TestWhatNobodyTakesForADayIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.src.add(schedule.EventRunStart)
		var lost []int64
		r.start(func(c *Config) {
			c.Hooks = []Hook{{Name: "h", URL: hookURL}}
			c.GivenUp = func(_ string, e schedule.Event, _ error) { lost = append(lost, e.ID) }
			c.Client = &http.Client{Transport: trip(func(*http.Request) (*http.Response, error) { return respond(500), nil })}
		})
		time.Sleep(23 * time.Hour)
		if s := r.sender.Status()[0]; s.GivenUp != 0 || s.Retried < 200 {
			t.Errorf("given up early: %+v", s)
		}
		time.Sleep(90 * time.Minute)
		r.stop()
		if !slices.Equal(lost, []int64{1}) || r.cursors.of("h") != 1 {
			t.Errorf("lost %v, cursor %d", lost, r.cursors.of("h"))
		}
	})
}

func TestARefusedEventIsGivenUpAndTold(t *testing.T) {
	for _, status := range []int{400, 401, 404, 410, 301, 307} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.src.add(schedule.EventAlarm, schedule.EventRunEnd)
			var tries int
			var lost []string
			var well atomic.Int64
			r.start(func(c *Config) {
				c.Hooks = []Hook{{Name: "h", URL: hookURL}}
				c.GivenUp = func(hook string, e schedule.Event, cause error) {
					lost = append(lost, fmt.Sprintf("%s %d %v", hook, e.ID, cause))
				}
				c.Well = func(string) { well.Add(1) }
				c.Client = &http.Client{Transport: trip(func(q *http.Request) (*http.Response, error) {
					if number(q) == "1" {
						tries++
						return respond(status, "Location", "https://elsewhere.example.com/"), nil
					}
					if q.URL.Host != "hooks.example.com" {
						t.Errorf("a redirect was followed to %s", q.URL.Host)
					}
					return respond(200), nil
				})}
			})
			time.Sleep(5 * time.Minute)
			r.stop()
			want := fmt.Sprintf("h 1 the receiver answered %d %s", status, http.StatusText(status))
			if tries != 6 || !slices.Equal(lost, []string{want}) || r.cursors.of("h") != 2 {
				t.Errorf("%d: %d tries, lost %v, cursor %d", status, tries, lost, r.cursors.of("h"))
			}
			if s := r.sender.Status()[0]; s.GivenUp != 1 || s.Retried != 5 || s.Delivered != 1 {
				t.Errorf("%d: status %+v", status, s)
			}
			if well.Load() != 0 {
				t.Errorf("%d: well right after an event was lost", status)
			}
		})
	}
}

// Well is told after a start and an hour after the last loss, once each.
func TestWellIsToldAfterAQuietHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var well, lost atomic.Int64
		r.start(func(c *Config) {
			c.Hooks = []Hook{{Name: "h", URL: hookURL}}
			c.Well = func(string) { well.Add(1) }
			c.GivenUp = func(string, schedule.Event, error) { lost.Add(1) }
			c.Client = &http.Client{Transport: trip(func(q *http.Request) (*http.Response, error) {
				if number(q) == "2" {
					return respond(400), nil
				}
				return respond(200), nil
			})}
		})
		for _, step := range []struct {
			after time.Duration
			well  int64
		}{{time.Minute, 1}, {5 * time.Minute, 1}, {30 * time.Minute, 1}, {time.Hour, 1}, {time.Hour, 2}, {time.Hour, 2}} {
			r.src.add(schedule.EventRunEnd)
			time.Sleep(step.after)
			if n := well.Load(); n != step.well {
				t.Errorf("after %v: well %d times, want %d", step.after, n, step.well)
			}
		}
		if lost.Load() != 1 {
			t.Errorf("%d lost", lost.Load())
		}
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	for _, c := range []struct {
		name     string
		header   func() string
		from, to time.Duration
	}{
		{"seconds", func() string { return "600" }, 600 * time.Second, 610 * time.Second},
		{"an instant", func() string { return time.Now().Add(20 * time.Minute).UTC().Format(http.TimeFormat) }, 20*time.Minute - time.Second, 20*time.Minute + 5*time.Second},
		{"a week", func() string { return "604800" }, time.Hour, time.Hour + 10*time.Second},
		{"nonsense", func() string { return "soon" }, time.Second, 5 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.src.add(schedule.EventRunEnd)
			var got received
			r.start(func(cfg *Config) {
				cfg.Hooks = []Hook{{Name: "h", URL: hookURL}}
				cfg.Client = &http.Client{Transport: trip(func(q *http.Request) (*http.Response, error) {
					got.add(number(q))
					if len(got.list()) == 1 {
						return respond(429, "Retry-After", c.header()), nil
					}
					return respond(200), nil
				})}
			})
			time.Sleep(3 * time.Hour)
			r.stop()
			if len(got.at) != 2 {
				t.Fatalf("%s: %d requests", c.name, len(got.at))
			}
			if d := got.at[1].Sub(got.at[0]); d < c.from || d > c.to {
				t.Errorf("%s: tried again after %v", c.name, d)
			}
		})
	}
}

func TestARestartGoesOnWhereItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.cursors.fails = 1
		r.src.add(schedule.EventRunStart, schedule.EventRunEnd)
		var got received
		config := func(c *Config) {
			c.Hooks = []Hook{{Name: "h", URL: hookURL}}
			c.Client = &http.Client{Transport: trip(func(q *http.Request) (*http.Response, error) {
				got.add(number(q))
				return respond(200), nil
			})}
		}
		r.start(config)
		time.Sleep(time.Minute)
		r.stop()
		r.src.add(schedule.EventPaused, schedule.EventResumed)
		r.start(config)
		time.Sleep(time.Minute)
		if g := got.list(); !slices.Equal(g, []string{"1", "2", "3", "4"}) {
			t.Errorf("received %v", g)
		}
	})
}

func TestANewHookBeginsWithWhatHappensNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.src.add(schedule.EventRunStart, schedule.EventRunEnd)
		var got received
		r.begin(Config{
			Source: r.src, Cursor: r.cursors, Hooks: []Hook{{Name: "new", URL: hookURL}},
			Client: &http.Client{Transport: trip(func(q *http.Request) (*http.Response, error) { got.add(number(q)); return respond(200), nil })},
		})
		time.Sleep(time.Minute)
		r.src.add(schedule.EventPaused)
		time.Sleep(time.Minute)
		if g := got.list(); !slices.Equal(g, []string{"3"}) || r.cursors.of("new") != 3 {
			t.Errorf("received %v, cursor %d", g, r.cursors.of("new"))
		}
	})
}

func TestACursorAheadOfTheEventsIsPutRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.src.add(schedule.EventRunStart)
		r.cursors.at["h"] = 9000 // of a database that is no more
		var got received
		r.start(func(c *Config) {
			c.Hooks = []Hook{{Name: "h", URL: hookURL}}
			c.Client = &http.Client{Transport: trip(func(q *http.Request) (*http.Response, error) { got.add(number(q)); return respond(200), nil })}
		})
		time.Sleep(time.Minute)
		r.src.add(schedule.EventRunEnd)
		time.Sleep(time.Minute)
		if g := got.list(); !slices.Equal(g, []string{"2"}) {
			t.Errorf("received %v", g)
		}
	})
}

// An event with a lower ID shows up late, as on PostgreSQL.
func TestAGapInTheIDsIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.src.add(schedule.EventRunStart)
		var got received
		r.start(func(c *Config) {
			c.Hooks = []Hook{{Name: "h", URL: hookURL}}
			c.Client = &http.Client{Transport: trip(func(q *http.Request) (*http.Response, error) { got.add(number(q)); return respond(200), nil })}
		})
		time.Sleep(time.Minute)
		r.src.put(event(3, schedule.EventRunEnd))
		time.Sleep(5 * time.Second)
		if g := got.list(); len(g) != 1 {
			t.Fatalf("3 was sent before 2 had a chance: %v", g)
		}
		r.src.put(event(2, schedule.EventRunFail))
		time.Sleep(5 * time.Second)
		r.src.put(event(6, schedule.EventRunEnd)) // 4 and 5 never were: a transaction that was undone
		time.Sleep(20 * time.Second)
		if g := got.list(); !slices.Equal(g, []string{"1", "2", "3", "6"}) {
			t.Errorf("received %v", g)
		}
	})
}

func TestOnlyTheLeaderSends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var got received
		client := &http.Client{Transport: trip(func(q *http.Request) (*http.Response, error) {
			var p struct{ Appliance string }
			if err := json.NewDecoder(q.Body).Decode(&p); err != nil {
				t.Error(err)
			}
			got.add(p.Appliance + " " + number(q))
			return respond(200), nil
		})}
		var leader atomic.Value
		leader.Store("a1")
		member := func(id string) {
			r.start(func(c *Config) {
				c.Appliance, c.Client, c.Hooks = id, client, []Hook{{Name: "h", URL: hookURL}}
				c.Leader = func() bool { return leader.Load() == id }
			})
		}
		member("a1")
		member("a2")
		r.src.add(schedule.EventRunStart, schedule.EventRunEnd)
		time.Sleep(time.Minute)
		leader.Store("a2")
		r.src.add(schedule.EventRunStart)
		time.Sleep(time.Minute)
		leader.Store("a1")
		r.src.add(schedule.EventRunEnd)
		time.Sleep(time.Minute)
		if g := got.list(); !slices.Equal(g, []string{"a1 1", "a1 2", "a2 3", "a1 4"}) {
			t.Errorf("received %v", g)
		}
	})
}

// Two that both believe to lead: each event comes, none out of order for long,
// and the cursor never goes back.
func TestAFormerLeaderFindsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var got received
		client := &http.Client{Transport: trip(func(q *http.Request) (*http.Response, error) { got.add(number(q)); return respond(200), nil })}
		for range 2 {
			r.start(func(c *Config) { c.Client, c.Hooks = client, []Hook{{Name: "h", URL: hookURL}} })
		}
		for range 20 {
			r.src.add(schedule.EventRunEnd)
			time.Sleep(3 * time.Second)
		}
		time.Sleep(time.Minute)
		times := map[string]int{}
		for _, id := range got.list() {
			times[id]++
		}
		for id := 1; id <= 20; id++ {
			if n := times[fmt.Sprint(id)]; n < 1 || n > 2 {
				t.Errorf("event %d came %d times", id, n)
			}
		}
		if at := r.cursors.of("h"); at != 20 {
			t.Errorf("the cursor is at %d", at)
		}
	})
}

func TestNothingSecretIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.src.add(schedule.EventRunEnd)
		r.start(func(c *Config) {
			c.Hooks = []Hook{{Name: "h", URL: hookURL, Secret: "correct horse battery staple"}}
			c.Client = &http.Client{Transport: trip(func(*http.Request) (*http.Response, error) {
				return nil, errors.New("proxyconnect: https://me:pa55word@proxy:3128 refused")
			})}
		})
		time.Sleep(time.Minute)
		r.stop()
		text := r.logged() + fmt.Sprintf("%v %+v %#v", r.sender.Status(), r.sender.lanes[0].hook.Secret, r.sender.lanes[0].hook.Secret)
		for _, s := range []string{"s3cr3tpath", "pa55word", "staple"} {
			if strings.Contains(text, s) {
				t.Errorf("%q is in: %s", s, text)
			}
		}
		if !strings.Contains(text, "not delivered") {
			t.Errorf("nothing was logged: %s", text)
		}
	})
}

func TestAnEventThatIsNoJSONHoldsUpNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		e := event(1, schedule.EventRunEnd)
		e.Data = json.RawMessage(`{"broken`)
		r.src.put(e)
		r.src.put(event(2, schedule.EventRunEnd))
		var got received
		r.start(func(c *Config) {
			c.Hooks = []Hook{{Name: "h", URL: hookURL}}
			c.Client = &http.Client{Transport: trip(func(q *http.Request) (*http.Response, error) { got.add(number(q)); return respond(200), nil })}
		})
		time.Sleep(10 * time.Second)
		if g := got.list(); !slices.Equal(g, []string{"2"}) || r.sender.Status()[0].GivenUp != 1 {
			t.Errorf("received %v, status %+v", g, r.sender.Status())
		}
	})
}
