// stan.go, steered by lines of JSON; what the lines mean stands in tests/stan/program.py.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/stan.go"
)

type request struct {
	Number    int
	Verb      string
	Arguments arguments
}

type arguments struct {
	Connection   string
	URL          string
	Cluster      string
	Client       string
	WaitSeconds  int `json:"wait_seconds"`
	AckSeconds   int `json:"ack_seconds"`
	PingSeconds  int `json:"ping_seconds"`
	PingOut      int `json:"ping_out"`
	Channel      string
	Data         []string
	Subscription string
	Start        [2]any
	Queue        string
	Durable      string
	Manual       bool
	InFlight     int `json:"in_flight"`
	Sequence     uint64
}

type key struct {
	subscription string
	sequence     uint64
}

// program is what this process holds; the lock guards the maps and the output.
type program struct {
	sync.Mutex
	connections   map[string]stan.Conn
	subscriptions map[string]stan.Subscription
	messages      map[key]*stan.Msg
}

func main() {
	p := &program{
		connections:   map[string]stan.Conn{},
		subscriptions: map[string]stan.Subscription{},
		messages:      map[key]*stan.Msg{},
	}
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var asked request
		if err := json.Unmarshal(line, &asked); err != nil {
			panic(err)
		}
		go func() {
			result, err := p.obey(asked.Verb, asked.Arguments)
			if err != nil {
				p.tell(map[string]any{"number": asked.Number, "error": err.Error()})
				return
			}
			p.tell(map[string]any{"number": asked.Number, "result": result})
		}()
	}
}

func (p *program) tell(line map[string]any) {
	text, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	p.Lock()
	defer p.Unlock()
	fmt.Printf("%s\n", text)
}

func (p *program) connection(name string) stan.Conn {
	p.Lock()
	defer p.Unlock()
	return p.connections[name]
}

func (p *program) subscription(name string) stan.Subscription {
	p.Lock()
	defer p.Unlock()
	return p.subscriptions[name]
}

func (p *program) obey(verb string, a arguments) (any, error) {
	switch verb {
	case "connect":
		return nil, p.connect(a)
	case "publish":
		for _, text := range a.Data {
			if err := p.connection(a.Connection).Publish(a.Channel, []byte(text)); err != nil {
				return nil, err
			}
		}
		return nil, nil
	case "publish_async":
		return p.publishAsync(a)
	case "subscribe":
		return nil, p.subscribe(a)
	case "ack":
		p.Lock()
		message := p.messages[key{a.Subscription, a.Sequence}]
		p.Unlock()
		if err := message.Ack(); err != nil {
			return nil, err
		}
		return nil, p.connection(a.Connection).NatsConn().Flush()
	case "unsubscribe":
		return nil, p.subscription(a.Subscription).Unsubscribe()
	case "close_subscription":
		return nil, p.subscription(a.Subscription).Close()
	case "close":
		return nil, p.connection(a.Connection).Close()
	case "drop":
		p.connection(a.Connection).NatsConn().Close()
		return nil, nil
	}
	return nil, fmt.Errorf("no verb %q", verb)
}

func (p *program) connect(a arguments) error {
	made, err := stan.Connect(a.Cluster, a.Client,
		stan.NatsURL(a.URL),
		stan.ConnectWait(time.Duration(a.WaitSeconds)*time.Second),
		stan.PubAckWait(time.Duration(a.AckSeconds)*time.Second),
		stan.MaxPubAcksInflight(100_000),
		stan.Pings(a.PingSeconds, a.PingOut),
		stan.SetConnectionLostHandler(func(_ stan.Conn, reason error) {
			p.tell(map[string]any{"event": "lost", "connection": a.Connection, "error": reason.Error()})
		}),
		stan.NatsOptions(
			nats.ReconnectWait(50*time.Millisecond),
			nats.ReconnectJitter(0, 0),
			nats.ReconnectHandler(func(*nats.Conn) {
				p.tell(map[string]any{"event": "reconnected", "connection": a.Connection})
			}),
		),
	)
	if err != nil {
		return err
	}
	p.Lock()
	defer p.Unlock()
	p.connections[a.Connection] = made
	return nil
}

// publishAsync leaves out of both lists what was not answered in time, or not sent because NATS was away.
func (p *program) publishAsync(a arguments) (any, error) {
	var lock sync.Mutex
	var pending sync.WaitGroup
	acked, errors := []int{}, []string{}
	indices := map[string]int{}
	for index, text := range a.Data {
		lock.Lock()
		pending.Add(1)
		id, err := p.connection(a.Connection).PublishAsync(a.Channel, []byte(text), func(id string, err error) {
			defer pending.Done()
			lock.Lock()
			defer lock.Unlock()
			if err == nil {
				acked = append(acked, indices[id])
			} else if err != stan.ErrTimeout {
				errors = append(errors, err.Error())
			}
		})
		if err == nil {
			indices[id] = index
		} else {
			pending.Done()
		}
		lock.Unlock()
	}
	pending.Wait()
	return map[string]any{"acked": acked, "errors": errors}, nil
}

func start(kind string, value float64) stan.SubscriptionOption {
	switch kind {
	case "last":
		return stan.StartWithLastReceived()
	case "first":
		return stan.DeliverAllAvailable()
	case "sequence":
		return stan.StartAtSequence(uint64(value))
	case "ago":
		return stan.StartAtTimeDelta(time.Duration(value * float64(time.Second)))
	case "time":
		return stan.StartAtTime(time.UnixMicro(int64(value * 1e6)))
	}
	return func(*stan.SubscriptionOptions) error { return nil }
}

func (p *program) subscribe(a arguments) error {
	options := []stan.SubscriptionOption{
		start(a.Start[0].(string), a.Start[1].(float64)),
		stan.MaxInflight(a.InFlight),
		stan.AckWait(time.Duration(a.AckSeconds) * time.Second),
	}
	if a.Durable != "" {
		options = append(options, stan.DurableName(a.Durable))
	}
	if a.Manual {
		options = append(options, stan.SetManualAckMode())
	}
	heard := func(message *stan.Msg) {
		p.Lock()
		p.messages[key{a.Subscription, message.Sequence}] = message
		p.Unlock()
		p.tell(map[string]any{
			"event":        "message",
			"subscription": a.Subscription,
			"channel":      message.Subject,
			"sequence":     message.Sequence,
			"data":         string(message.Data),
			"redelivered":  message.Redelivered,
			"count":        message.RedeliveryCount,
			"timestamp_us": message.Timestamp / 1000,
		})
	}
	made, err := p.connection(a.Connection).QueueSubscribe(a.Channel, a.Queue, heard, options...)
	if err != nil {
		return err
	}
	p.Lock()
	defer p.Unlock()
	p.subscriptions[a.Subscription] = made
	return nil
}
