/// Text on disk becomes token shards, and shards become batches.
///
/// [Documents] streams named texts from files; [Corpus#prepare] tokenises them once into two
/// memory-mapped [TokenShard]s, one to train on and one held out; [BatchReader] and [HeldOutReader]
/// cut windows from them. Start reading at [Corpus].
///
/// Invariants:
/// - a text is UTF-8 without U+0000, which separates documents where tokens are bytes; what is
///   broken is counted and told, and where it is much, or a file is damaged, nothing is prepared;
/// - what is read of a file at once is a piece of a text, one string of JSON or one page of
///   Parquet, however long the file is and whatever lengths it claims;
/// - no text is in both shards: with many documents whole documents are held out, chosen by a hash
///   of their content; with few, the end of each;
/// - the same documents, tokenizer and share give the same bytes on disk, on any machine;
/// - a batch is a pure function of (shard, sizes, seed, index), so resuming needs only the index.
package dev.sluice.corpus;
