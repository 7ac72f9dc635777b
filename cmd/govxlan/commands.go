package main

import "github.com/spf13/cobra"

// commands lists every command; each lives in the file of its name.
func commands() []*cobra.Command {
	return []*cobra.Command{
		newBenchCommand(),
		newCaptureCommand(),
		newCNICommand(),
		newConfigCommand(),
		newDecodeCommand(),
		newDemoCommand(),
		newDockerPluginCommand(),
		newDoctorCommand(),
		newDownCommand(),
		newFDBCommand(),
		newKeyCommand(),
		newMembersCommand(),
		newMonitorCommand(),
		newNeighCommand(),
		newNexthopCommand(),
		newOverlayCommand(),
		newPeerCommand(),
		newPingCommand(),
		newReloadCommand(),
		newStatsCommand(),
		newStatusCommand(),
		newTopCommand(),
		newUpCommand(),
		newVersionCommand(),
		newVNICommand(),
	}
}
