/// GGUF, the files of llama.cpp: a container of metadata and of tensors in blocks
/// ([dev.sluice.kernel.WeightFormat]). What the metadata of an architecture mean is not known here.
package dev.sluice.gguf;
