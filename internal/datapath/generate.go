package datapath

//go:generate go tool bpf2go -cc clang -target bpfel,bpfeb -type endpoint -type overlay -type station_key -type station -type peer -type tally -cflags "-O2 -Wall -Wno-logical-op-parentheses -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu" program datapath.c
