package dev.sluice.template;

import org.jspecify.annotations.Nullable;

/// What a value cannot do, before it is known where in the template that was asked.
final class TemplateFailure extends RuntimeException {
  private static final long serialVersionUID = 1L;

  TemplateFailure(String message) {
    super(message, null, false, false);
  }

  @SuppressWarnings("AnnotateFormatMethod")
  static TemplateFailure of(String format, @Nullable Object... arguments) {
    return new TemplateFailure(format.formatted(arguments));
  }

  static TemplateFailure outside(String construct) {
    return new TemplateFailure(
        construct
            + " is outside the part of Jinja that is supported; put a chat_template.jinja without"
            + " it beside the model");
  }

  @Override
  public String getMessage() {
    return String.valueOf(super.getMessage());
  }
}
