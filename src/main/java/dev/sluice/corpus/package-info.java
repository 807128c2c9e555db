/// Text on disk becomes token shards, and shards become batches.
///
/// [Documents] streams named texts from files; [Corpus#prepare] tokenises them once into two
/// memory-mapped [TokenShard]s, one to train on and one held out; [BatchReader] and [HeldOutReader]
/// cut windows from them. Start reading at [Corpus].
///
/// Invariants:
/// - no text is in both shards: with many documents whole documents are held out, chosen by a hash
///   of their content; with few, the end of each;
/// - the same documents, tokenizer and share give the same bytes on disk, on any machine;
/// - a batch is a pure function of (shard, sizes, seed, index), so resuming needs only the index.
package dev.sluice.corpus;
