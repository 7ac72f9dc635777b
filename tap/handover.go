package tap

// Handover says of a device what another process must know, beside its
// descriptors, to go on with it. It is meant to be sent as JSON: fields are
// added, and those that are unknown left out.
type Handover struct {
	Name string `json:"name"`
	// Index of the interface in its namespace.
	Index int `json:"index"`
	// Header is the length of the virtio-net header, in bytes: 0 for none.
	Header int `json:"header"`
	// Features in force.
	Features Features `json:"features"`
	Persist  bool     `json:"persist,omitempty"`
}

// Transferable is a Device that another process can go on with. Those of Open
// on Linux are.
type Transferable interface {
	Device
	// HandOver returns what the other process needs: a description, and one
	// descriptor for each queue, which stay the device's and are valid until
	// Close. With a copy of them elsewhere, Close leaves the device as it is.
	HandOver() (Handover, []int)
}

// Persistent is a Device that can outlive the process that made it. Those of Open
// on Linux are.
type Persistent interface {
	Device
	// Persist has the device stay when it is closed, and when this process ends,
	// however that is: without carrier, and with its index, addresses, routes
	// and bridge. Config.Adopt goes on with it, Remove ends it. With false, it
	// goes with Close again.
	Persist(yes bool) error
}
