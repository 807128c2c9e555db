/// Checkpoints on disk: safetensors files, directories in Hugging Face's layout, and directories
/// that become visible only when they are complete. Start at
/// [dev.sluice.checkpoint.SafetensorsFile] for the format and at
/// [dev.sluice.checkpoint.CheckpointDirectory] for what survives a crash.
///
/// Nothing here knows a tensor: data are little-endian bytes in memory segments, and whoever reads
/// them copies them where they belong.
package dev.sluice.checkpoint;
