import org.jspecify.annotations.NullMarked;

/// Sluice: gated attention for the JVM. Start reading at `dev.sluice.attention.Attention`.
@NullMarked
module dev.sluice {
  requires static transitive org.jspecify;
  requires jdk.incubator.vector;
  requires org.bytedeco.pytorch;
  requires org.bytedeco.javacpp;
  requires info.picocli;
  requires tools.jackson.databind;
  requires tools.jackson.dataformat.toml;
  requires dev.hardwood.core;
  requires com.github.luben.zstd_jni;
  requires ai.djl.tokenizers;
  // Used by ai.djl.tokenizers, which as an automatic module cannot ask for it.
  requires org.slf4j;

  exports dev.sluice;
  exports dev.sluice.corpus;
  exports dev.sluice.tensor;
  exports dev.sluice.tokenizer;
}
