package config

// File is a configuration file as read.
type File struct {
	Name string
	Top  Values
	VNIs []Values
}
