// Open-loop load: requests leave when a Poisson process says so, whatever the server does.
//
// `openloop SPEC` reads a JSON file (bench/openloop.py writes it) and prints one line of JSON. A latency counts from
// the moment at which a request was due, so a server that stalls pays for all who would have come meanwhile. One thread
// spins over epoll: it must neither sleep past a due time nor wait for a timer.
//
// While the machine runs something else on this core, time stands still here: due times move on by that much, and what
// was answered meanwhile is counted, but its latency, which nobody saw, is not. Otherwise 10 ms of another process in
// every second are the slowest hundredth of any server's answers.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand"
	"os"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// A request that finds every connection busy waits, and its latency counts. All are opened before the first request,
// because opening one may take a second where a server's backlog is full.
const connections = 256

// How long answers may come after the last request has left.
const drain = 5 * time.Second

// The longest that this program is silent by itself; more between two looks at the clock is a pause.
const silence = time.Millisecond

// Stands for the latency of answers of which none was seen to come, in ms, as bench/visit.py has it.
const never = 1e9

// Status of a request whose connection the server closed.
const closed = 0

type spec struct {
	Port    int     `json:"port"`
	Request string  `json:"request"` // file with the whole HTTP request
	Rate    float64 `json:"rate"`    // requests a second, in the mean
	Seconds float64 `json:"seconds"`
	WarmUp  float64 `json:"warm_up"` // seconds at the same rate that are not counted
	Seed    int64   `json:"seed"`
}

// A keep-alive connection with at most one request under way.
type connection struct {
	socket int
	buffer []byte
	busy   bool
	due    time.Duration // of its request, from the start
	counts bool          // it was due after the warm-up
}

type client struct {
	spec      spec
	request   []byte
	due       []time.Duration
	poll      int
	all       map[int]*connection
	idle      []*connection // in turn: one that is never used would be closed by the server
	sent      int
	inFlight  int
	started   time.Time
	seen      time.Duration           // when it was last running, from the start
	resumed   time.Duration           // when the last pause ended
	paused    time.Duration           // all pauses, by which due times have moved
	away      time.Duration           // those after the warm-up
	answered  map[int]int             // by status, of the requests due after the warm-up
	latencies map[int][]time.Duration // of those that were seen to be answered
	late      time.Duration           // the longest that a request left after it was due: the generator's own share
}

// Due times of a Poisson process; the same for every server.
func schedule(rate, seconds float64, seed int64) []time.Duration {
	chance := rand.New(rand.NewSource(seed))
	var found []time.Duration
	for at := chance.ExpFloat64() / rate; at < seconds; at += chance.ExpFloat64() / rate {
		found = append(found, time.Duration(at*float64(time.Second)))
	}
	return found
}

func (c *client) run() error {
	for range connections {
		if err := c.open(); err != nil {
			return err
		}
	}
	events := make([]syscall.EpollEvent, connections)
	end := seconds(c.spec.WarmUp+c.spec.Seconds) + drain
	c.started = time.Now()
	for c.sent < len(c.due) || c.inFlight > 0 {
		turn := c.now()
		if turn > end+c.paused {
			break
		}
		for now := turn; c.sent < len(c.due) && c.due[c.sent]+c.paused <= now && len(c.idle) > 0; now = c.now() {
			if err := c.send(now); err != nil {
				return err
			}
		}
		ready, err := syscall.EpollWait(c.poll, events, 0)
		if err != nil && err != syscall.EINTR {
			return err
		}
		for _, event := range events[:max(ready, 0)] {
			if err := c.receive(c.all[int(event.Fd)], turn); err != nil {
				return err
			}
		}
	}
	return nil
}

// The time since the start; a pause that has just ended is noted.
func (c *client) now() time.Duration {
	now := time.Since(c.started)
	if gap := now - c.seen; gap > silence {
		c.resumed = now
		if c.sent > 0 && c.due[c.sent-1] > seconds(c.spec.WarmUp) {
			c.away += gap
		}
		c.paused += gap
	}
	c.seen = now
	return now
}

func (c *client) send(now time.Duration) error {
	connection := c.idle[0]
	c.idle = c.idle[1:]
	due := c.due[c.sent] + c.paused
	if written, err := syscall.Write(connection.socket, c.request); err != nil || written < len(c.request) {
		if err == nil {
			return fmt.Errorf("%d of %d bytes fit the socket's buffer: the request is too large", written, len(c.request))
		}
		return c.reopen(connection) // the server has closed it while it was idle; the request goes by another
	}
	connection.busy, connection.due, connection.counts = true, due, c.due[c.sent] > seconds(c.spec.WarmUp)
	if connection.counts {
		c.late = max(c.late, now-due)
	}
	c.sent++
	c.inFlight++
	return nil
}

// `turn` is when this turn of the loop began: what it finds after a pause may have been there for long.
func (c *client) receive(connection *connection, turn time.Duration) error {
	status, whole := connection.read()
	if !whole {
		return nil
	}
	if connection.busy {
		connection.busy = false
		c.inFlight--
		if now := c.now(); connection.counts {
			c.answered[status]++
			if c.resumed < turn {
				c.latencies[status] = append(c.latencies[status], now-connection.due)
			}
		}
		if status != closed {
			c.idle = append(c.idle, connection)
		}
	}
	if status == closed {
		return c.reopen(connection)
	}
	return nil
}

// The status once the answer is whole.
func (c *connection) read() (status int, whole bool) {
	free := cap(c.buffer) - len(c.buffer)
	if free == 0 {
		c.buffer = slices.Grow(c.buffer, cap(c.buffer))
		free = cap(c.buffer) - len(c.buffer)
	}
	count, err := syscall.Read(c.socket, c.buffer[len(c.buffer):len(c.buffer)+free])
	if err == syscall.EAGAIN || err == syscall.EINTR {
		return 0, false
	}
	if err != nil || count == 0 {
		return closed, true
	}
	c.buffer = c.buffer[:len(c.buffer)+count]
	head := bytes.Index(c.buffer, []byte("\r\n\r\n"))
	if head < 0 || len(c.buffer) < head+4+length(c.buffer[:head]) {
		return 0, false
	}
	status, _ = strconv.Atoi(string(c.buffer[9:12]))
	c.buffer = c.buffer[:0]
	return status, true
}

// What Content-Length says; nothing of a server's answer can be read without it.
func length(head []byte) int {
	const name = "content-length:"
	lower := bytes.ToLower(head)
	at := bytes.Index(lower, []byte(name))
	if at < 0 {
		fail(fmt.Errorf("an answer without Content-Length: %q", head))
	}
	value, _, _ := bytes.Cut(lower[at+len(name):], []byte("\r\n"))
	size, err := strconv.Atoi(string(bytes.TrimSpace(value)))
	if err != nil {
		fail(err)
	}
	return size
}

func (c *client) open() error {
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := syscall.Connect(socket, &syscall.SockaddrInet4{Port: c.spec.Port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return fmt.Errorf("port %d: %w", c.spec.Port, err)
	}
	if err := syscall.SetsockoptInt(socket, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1); err != nil {
		return err
	}
	if err := syscall.SetNonblock(socket, true); err != nil {
		return err
	}
	event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(socket)}
	if err := syscall.EpollCtl(c.poll, syscall.EPOLL_CTL_ADD, socket, &event); err != nil {
		return err
	}
	opened := &connection{socket: socket, buffer: make([]byte, 0, 65536)}
	c.all[socket] = opened
	c.idle = append(c.idle, opened)
	return nil
}

// A new connection in the place of one that the server has closed.
func (c *client) reopen(gone *connection) error {
	c.idle = slices.DeleteFunc(c.idle, func(each *connection) bool { return each == gone })
	delete(c.all, gone.socket)
	if err := syscall.Close(gone.socket); err != nil {
		return err
	}
	return c.open()
}

func (c *client) summary() map[string]any {
	statuses := map[string]any{}
	for status, count := range c.answered {
		told := map[string]any{"count": count, "p50_ms": never, "p99_ms": never, "max_ms": never}
		if taken := c.latencies[status]; len(taken) > 0 {
			slices.Sort(taken)
			told["p50_ms"], told["p99_ms"] = percentile(taken, 50), percentile(taken, 99)
			told["max_ms"] = milliseconds(taken[len(taken)-1])
		}
		statuses[strconv.Itoa(status)] = told
	}
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		fail(err)
	}
	return map[string]any{
		"seconds": c.spec.Seconds + c.away.Seconds(), "unanswered": c.inFlight + len(c.due) - c.sent, "late_ms": milliseconds(c.late),
		"away_ms":     milliseconds(c.away),
		"cpu_seconds": time.Duration(used.Utime.Nano() + used.Stime.Nano()).Seconds(), "statuses": statuses,
	}
}

// The smallest value that so many percent of all do not exceed.
func percentile(ordered []time.Duration, percent float64) float64 {
	at := int(math.Ceil(float64(len(ordered))*percent/100)) - 1
	return milliseconds(ordered[max(at, 0)])
}

func milliseconds(taken time.Duration) float64 { return float64(taken.Microseconds()) / 1e3 }

func seconds(value float64) time.Duration { return time.Duration(value * float64(time.Second)) }

func fail(err error) {
	fmt.Fprintln(os.Stderr, "openloop:", err)
	os.Exit(1)
}

func main() {
	runtime.LockOSThread()
	c := &client{all: map[int]*connection{}, answered: map[int]int{}, latencies: map[int][]time.Duration{}}
	text, err := os.ReadFile(os.Args[1])
	if err == nil {
		err = json.Unmarshal(text, &c.spec)
	}
	if err == nil {
		c.request, err = os.ReadFile(c.spec.Request)
	}
	if err == nil {
		c.poll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	}
	if err == nil {
		c.due = schedule(c.spec.Rate, c.spec.WarmUp+c.spec.Seconds, c.spec.Seed)
		err = c.run()
	}
	if err != nil {
		fail(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(c.summary()); err != nil {
		fail(err)
	}
}
