package dev.sluice.tokenizer;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.files.Sha256;
import java.util.List;
import java.util.Set;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;

/// The token that ends a document. `tokenizer.json` does not say which one does, so it is looked
/// for in this order: what the user names, `tokenizer_config.json`, `special_tokens_map.json`,
/// `generation_config.json` and `config.json` beside it, then the usual names. The first that says
/// anything decides.
///
/// @param id below the vocabulary size, or −1 where there is none
/// @param text what the vocabulary has for the id; empty where there is none
/// @param missing why there is none, and the way out; empty where there is one
record EndToken(int id, String text, String missing) {
  /// The files that name it by its text.
  static final List<String> BY_TEXT = List.of("tokenizer_config.json", "special_tokens_map.json");

  /// The files that name it by its id.
  static final List<String> BY_ID = List.of("generation_config.json", "config.json");

  private static final List<String> USUAL =
      List.of("<|endoftext|>", "</s>", "<eos>", "<|end_of_text|>");

  /// Between the SHA-256 and the id in a fingerprint.
  private static final String MARK = ":eos=";

  private static final int SHOWN = 40;
  private static final int LISTED = 12;

  /// @param named by the user; null or empty to look for it
  static EndToken of(TokenizerFile file, @Nullable String named) {
    if (named != null && !named.isEmpty()) {
      Integer id = file.idOfToken().get(named);
      if (id == null) {
        throw new InvalidInputException(
            "%s has no token %s to end documents with; %s"
                .formatted(file.path(), TokenizerFile.quoted(named), choice(file)));
      }
      return new EndToken(id, named, "");
    }
    for (String name : BY_TEXT) {
      JsonNode value = file.beside(name).path("eos_token");
      if (!value.isMissingNode() && !value.isNull()) {
        return byText(file, name, value);
      }
    }
    for (String name : BY_ID) {
      JsonNode value = file.beside(name).path("eos_token_id");
      if (!value.isMissingNode() && !value.isNull() && !(value.isArray() && value.isEmpty())) {
        return byId(file, name, value.isArray() ? value.path(0) : value);
      }
    }
    for (String usual : USUAL) {
      Integer id = file.idOfToken().get(usual);
      if (id != null) {
        return new EndToken(id, usual, "");
      }
    }
    return none(
        "neither %s nor a file beside it says which token ends a document; %s"
            .formatted(file.path(), choice(file)));
  }

  /// The token of a corpus or run that has this fingerprint, so that what was begun goes on as it
  /// was; where it is not of this file, the same as [#of].
  static EndToken recorded(TokenizerFile file, String fingerprint) {
    String sha256 = Sha256.hex(file.bytes());
    int id = -1;
    if (fingerprint.equals(sha256)) {
      id = suggested(file);
    } else if (fingerprint.matches(sha256 + MARK + "\\d{1,9}")) {
      id = Integer.parseInt(fingerprint.substring(sha256.length() + MARK.length()));
    }
    String text = file.token(id);
    return text == null ? of(file, null) : new EndToken(id, text, "");
  }

  /// What stands behind the SHA-256 of the file in the tokenizer's fingerprint, see
  /// [Tokenizer#fingerprint]: nothing where the file alone suggests the same token.
  String mark(TokenizerFile file) {
    return isKnown() && id != suggested(file) ? MARK + id : "";
  }

  private static EndToken byText(TokenizerFile file, String name, JsonNode value) {
    String text = TokenizerFile.content(value);
    Integer id = text == null ? null : file.idOfToken().get(text);
    return text != null && id != null
        ? new EndToken(id, text, "")
        : none(
            "%s names %s as eos_token, which is no token of %s; %s"
                .formatted(
                    file.path().resolveSibling(name), shown(value), file.path(), choice(file)));
  }

  private static EndToken byId(TokenizerFile file, String name, JsonNode value) {
    String token = value.isInt() ? file.token(value.asInt()) : null;
    return token != null
        ? new EndToken(value.asInt(), token, "")
        : none(
            "%s has the eos_token_id %s, which is no id of %s; %s"
                .formatted(
                    file.path().resolveSibling(name), shown(value), file.path(), choice(file)));
  }

  private static EndToken none(String missing) {
    return new EndToken(-1, "", missing);
  }

  private static String shown(JsonNode value) {
    return Printable.brief(value, SHOWN);
  }

  /// The way out: what can be chosen.
  private static String choice(TokenizerFile file) {
    Set<String> special = file.special().isEmpty() ? file.added() : file.special();
    if (special.isEmpty()) {
      return "name one of its tokens with --eos-token TEXT (it has no special ones)";
    }
    var listed =
        special.stream().limit(LISTED).map(token -> Printable.brief(token, SHOWN)).toList();
    return "choose one with --eos-token TEXT; its special tokens are %s%s"
        .formatted(String.join(", ", listed), special.size() > LISTED ? ", …" : "");
  }

  /// Whether it is known.
  boolean isKnown() {
    return id >= 0;
  }

  /// Its id.
  ///
  /// @throws InvalidInputException if it is not known
  int require() {
    if (!isKnown()) {
      throw new InvalidInputException(missing);
    }
    return id;
  }

  /// The id that `tokenizer.json` alone suggests: that of the first usual name, else 0. A corpus
  /// that was made with it has the fingerprint of that file alone.
  static int suggested(TokenizerFile file) {
    for (String usual : USUAL) {
      Integer id = file.idOfToken().get(usual);
      if (id != null) {
        return id;
      }
    }
    return 0;
  }
}
