import org.jspecify.annotations.NullMarked;

/// Sluice: gated attention for the JVM. Start reading at `dev.sluice.attention.Attention`.
@NullMarked
module dev.sluice {
  requires static transitive org.jspecify;
  requires jdk.incubator.vector;
  requires org.bytedeco.pytorch;
  requires org.bytedeco.javacpp;
  requires java.management;
  requires transitive jdk.jfr;
  requires jdk.httpserver;
  requires jdk.management;
  requires info.picocli;
  requires org.jline.reader;
  requires org.jline.terminal;
  requires org.apache.commons.statistics.distribution;
  requires transitive tools.jackson.databind;
  requires tools.jackson.dataformat.toml;
  requires com.aayushatharva.brotli4j;
  requires com.github.luben.zstd_jni;
  requires ai.djl.api;
  requires ai.djl.tokenizers;
  requires org.slf4j; // the tokenizers need it and do not say so

  exports dev.sluice.attention;
  exports dev.sluice.chat;
  exports dev.sluice.checkpoint;
  exports dev.sluice.corpus;
  exports dev.sluice.cuda;
  exports dev.sluice.decoder;
  exports dev.sluice.deltanet;
  exports dev.sluice.distributed;
  exports dev.sluice.evaluation;
  exports dev.sluice.gate;
  exports dev.sluice.generation;
  exports dev.sluice.gguf;
  exports dev.sluice.kernel;
  exports dev.sluice.operations;
  exports dev.sluice.optimizer;
  exports dev.sluice.probe;
  exports dev.sluice.provenance;
  exports dev.sluice.report;
  exports dev.sluice.retrofit;
  exports dev.sluice.ruler;
  exports dev.sluice.schema;
  exports dev.sluice.serving;
  exports dev.sluice.settings;
  exports dev.sluice.sink;
  exports dev.sluice.state;
  exports dev.sluice.statistics;
  exports dev.sluice.study;
  exports dev.sluice.template;
  exports dev.sluice.tensor;
  exports dev.sluice.tokenizer;
  exports dev.sluice.training;
  exports dev.sluice;

  opens dev.sluice.cli to
      info.picocli;
  opens dev.sluice.study to
      tools.jackson.databind;
  opens dev.sluice.training to
      tools.jackson.databind;
}
