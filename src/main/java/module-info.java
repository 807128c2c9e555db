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

  exports dev.sluice;
  exports dev.sluice.report;
  exports dev.sluice.tensor;
}
