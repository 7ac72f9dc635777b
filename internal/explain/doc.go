// Package explain takes a captured packet apart, field by field: where each
// field is, what it holds, what that means, and whether it is right. It knows
// the whole VXLAN stack, outer Ethernet, IP, UDP and VXLAN as well as the inner
// frame.
//
//	e := explain.Packet(b, explain.Detect, explain.Options{})
//	fmt.Println(e.OneLine())
//	e.WriteText(os.Stdout, explain.Style{Width: 80})
//
// It serves people, not the data path: it allocates for every field. Bytes may
// come from anywhere. Nothing in them makes it panic, and what is malformed is
// said with its place; the rest of the packet is explained all the same.
package explain
