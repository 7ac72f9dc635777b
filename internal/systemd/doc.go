// Package systemd tells the service manager how this process is (sd_notify(3)),
// and leaves descriptors with it over a restart. Without one, NOTIFY_SOCKET being
// unset, nothing happens.
package systemd
