/// Checkpoints on disk: safetensors files, directories in Hugging Face's layout, and directories
/// that become visible only when they are complete. Start at
/// [dev.sluice.checkpoint.SafetensorsFile] for the format and at
/// [dev.sluice.checkpoint.CheckpointDirectory] for what survives a crash.
///
/// Files hold little-endian bytes in memory segments; only [dev.sluice.checkpoint.ModelDirectory]
/// knows which tensor of a model they are.
package dev.sluice.checkpoint;
