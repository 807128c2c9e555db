package dev.sluice.chat;

import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/// What one side said.
///
/// @param thinking what the model thought before it said so; empty for none
public record Message(Role role, String content, String thinking) {
  /// Who said it.
  public enum Role {
    SYSTEM,
    USER,
    ASSISTANT;

    /// The name in templates and files.
    public String word() {
      return name().toLowerCase(Locale.ROOT);
    }
  }

  /// Without thoughts.
  public Message(Role role, String content) {
    this(role, content, "");
  }

  /// As templates take it. They know thoughts by one of two names, and leave out those that the
  /// model need not see again.
  public Map<String, @Nullable Object> asMap() {
    Map<String, @Nullable Object> map = new LinkedHashMap<>();
    map.put("role", role.word());
    map.put("content", content);
    if (!thinking.isEmpty()) {
      map.put("reasoning_content", thinking);
      map.put("thinking", thinking);
    }
    return map;
  }
}
