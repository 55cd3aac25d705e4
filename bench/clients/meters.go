package main

import (
	"bufio"
	"fmt"
	"io"
	"iter"
	"math"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is what /proc counts CPU time in; Linux has had no other value since 2.6.
const ticksPerSecond = 100

// meters are what a server and its store have done so far.
type meters struct {
	// Of the server: user and system time, in seconds.
	cpu float64
	// Of the whole machine, in ticks of all cores.
	busy, total float64
	// Of the store; 0 without one.
	puts, putBytes, gets, getBytes float64
}

// since gives what was done between two looks.
func (m meters) since(before meters) meters {
	return meters{m.cpu - before.cpu, m.busy - before.busy, m.total - before.total,
		m.puts - before.puts, m.putBytes - before.putBytes, m.gets - before.gets, m.getBytes - before.getBytes}
}

// measure looks at /proc and, unless its address is empty, at slow-s3's counters.
func measure(pid int, s3 string) meters {
	m := meters{cpu: processSeconds(pid)}
	m.busy, m.total = machineTicks()
	if s3 != "" {
		counters := storeCounters(s3)
		m.puts, m.putBytes = counters["put.landed"], counters["put.bytes"]
		m.gets, m.getBytes = counters["get.landed"], counters["get.bytes"]
	}
	return m
}

func processSeconds(pid int) float64 {
	stat := must(os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)))
	// The name may hold anything, so we count from the parenthesis that closes it.
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	return (number(fields[11]) + number(fields[12])) / ticksPerSecond
}

func machineTicks() (busy, total float64) {
	line, _, _ := strings.Cut(string(must(os.ReadFile("/proc/stat"))), "\n")
	for i, field := range strings.Fields(line)[1:9] {
		total += number(field)
		if i != 3 && i != 4 { // idle and waiting for IO
			busy += number(field)
		}
	}
	return busy, total
}

func storeCounters(address string) map[string]float64 {
	counters := map[string]float64{}
	for line := range lines(address, "/_control/counters") {
		if name, value, found := strings.Cut(line, " "); found && strings.Contains(name, ".") {
			counters[name] = number(value)
		}
	}
	return counters
}

// lines asks a server over HTTP/1.0 and gives the lines of its answer's body.
func lines(address, path string) iter.Seq[string] {
	return func(yield func(string) bool) {
		conn := must(net.Dial("tcp", address))
		defer conn.Close()
		must(io.WriteString(conn, "GET "+path+" HTTP/1.0\r\n\r\n"))
		body := bufio.NewScanner(conn)
		for body.Scan() && body.Text() != "" {
		}
		for body.Scan() && yield(body.Text()) {
		}
	}
}

func number(text string) float64 { return must(strconv.ParseFloat(text, 64)) }

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// objectsWritten asks a replica's admin port; 0 without one.
func objectsWritten(admin string) float64 {
	if admin == "" {
		return 0
	}
	for line := range lines(admin, "/metrics") {
		if value, found := strings.CutPrefix(line, "odradek_objects_written_total "); found {
			return number(value)
		}
	}
	fail("%s does not say how many objects it wrote", admin)
	return 0
}

// fail ends the process; its last line on stderr is what the table shows.
func fail(format string, values ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", values...)
	os.Exit(1)
}

// quantile gives a share of the durations in milliseconds, which it sorts.
func quantile(of []time.Duration, share float64) float64 {
	if len(of) == 0 {
		return math.NaN()
	}
	slices.Sort(of)
	return float64(of[int(share*float64(len(of)-1))].Microseconds()) / 1000
}
