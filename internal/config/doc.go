// Package config says what an endpoint and its VNIs are to be like. The flags of
// `govxlan up` and the keys of a configuration file are the same Options, in one
// table: Endpoint has what holds for the whole process, a Spec what is of one
// VNI. Nothing here touches the system.
package config
