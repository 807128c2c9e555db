package dev.sluice.distributed;

import dev.sluice.InvalidInputException;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/// Who this process is among the processes of a job, as its launcher says in environment variables.
///
/// @param rank from 0
/// @param worldSize how many ranks there are
/// @param localRank from 0, among the ranks on this machine
/// @param localWorldSize how many ranks are on this machine; 0 where the launcher does not say
/// @param masterAddress host on which ranks meet
/// @param masterPort port there
/// @param serves whether this process runs the server that ranks meet at: rank 0, unless the
///   launcher itself does
/// @param attempt how often the launcher has started the job before
/// @param networkInterface to listen on, or null
public record Ranks(
    int rank,
    int worldSize,
    int localRank,
    int localWorldSize,
    String masterAddress,
    int masterPort,
    boolean serves,
    int attempt,
    @Nullable String networkInterface) {
  /// Where Slurm's variables name no port.
  public static final int DEFAULT_PORT = 29_500;

  /// One process alone.
  public static final Ranks ALONE = new Ranks(0, 1, 0, 1, "127.0.0.1", 0, false, 0, null);

  public boolean isAlone() {
    return worldSize == 1;
  }

  /// Reads torchrun's variables (`RANK`, `WORLD_SIZE`, `LOCAL_RANK`, `MASTER_ADDR`, `MASTER_PORT`),
  /// or else Slurm's (`SLURM_PROCID`, `SLURM_NTASKS`, `SLURM_LOCALID`, the first host of
  /// `SLURM_JOB_NODELIST`); alone where there are neither.
  public static Ranks of(Map<String, String> environment) {
    boolean torch = environment.containsKey("RANK") || environment.containsKey("WORLD_SIZE");
    // Slurm sets its variables for a batch script too, which is no task of srun.
    boolean slurm =
        environment.containsKey("SLURM_PROCID")
            && environment.containsKey("SLURM_STEP_ID")
            && !environment.getOrDefault("SLURM_NTASKS", "1").equals("1");
    if (!torch && !slurm) {
      return ALONE;
    }
    var in = new Reader(environment);
    int worldSize = in.number(torch ? "WORLD_SIZE" : "SLURM_NTASKS", null);
    int rank = in.number(torch ? "RANK" : "SLURM_PROCID", null);
    if (worldSize < 1 || rank < 0 || rank >= worldSize) {
      throw new InvalidInputException(
          "rank %d of %d ranks is not possible; %s must be from 0 to below %s"
              .formatted(
                  rank,
                  worldSize,
                  torch ? "RANK" : "SLURM_PROCID",
                  torch ? "WORLD_SIZE" : "SLURM_NTASKS"));
    }
    if (worldSize == 1) {
      return ALONE;
    }
    String address = environment.get("MASTER_ADDR");
    if (address == null || address.isBlank()) {
      if (torch) {
        throw in.missing("MASTER_ADDR");
      }
      address = firstHost(in.text("SLURM_JOB_NODELIST"));
    }
    int port = in.number("MASTER_PORT", torch ? null : DEFAULT_PORT);
    if (port < 1 || port > 65_535) {
      throw new InvalidInputException(
          "MASTER_PORT is %d; a port is from 1 to 65535".formatted(port));
    }
    boolean launcherServes = "True".equals(environment.get("TORCHELASTIC_USE_AGENT_STORE"));
    String networkInterface = environment.get("GLOO_SOCKET_IFNAME");
    return new Ranks(
        rank,
        worldSize,
        in.number(torch ? "LOCAL_RANK" : "SLURM_LOCALID", 0),
        in.number(torch ? "LOCAL_WORLD_SIZE" : "SLURM_NTASKS_PER_NODE", 0),
        address,
        port,
        rank == 0 && !launcherServes,
        in.number("TORCHELASTIC_RESTART_COUNT", 0),
        networkInterface == null || networkInterface.isBlank() ? null : networkInterface);
  }

  private record Reader(Map<String, String> environment) {
    String text(String name) {
      String value = environment.get(name);
      if (value == null || value.isBlank()) {
        throw missing(name);
      }
      return value.strip();
    }

    InvalidInputException missing(String name) {
      return new InvalidInputException(
          "the environment says that this is one of several ranks, but %s is not set; set it, or unset RANK and WORLD_SIZE to train in one process"
              .formatted(name));
    }

    int number(String name, @Nullable Integer otherwise) {
      String value = environment.get(name);
      if ((value == null || value.isBlank()) && otherwise != null) {
        return otherwise;
      }
      try {
        return Integer.parseInt(text(name));
      } catch (NumberFormatException e) {
        throw new InvalidInputException(
            "%s is '%s' in the environment; it must be a whole number".formatted(name, value), e);
      }
    }
  }

  /// The first host of a list in Slurm's notation: `node03` of `node[03-07,9],other`.
  static String firstHost(String list) {
    int bracket = list.indexOf('[');
    int comma = list.indexOf(',');
    if (bracket < 0 || (comma >= 0 && comma < bracket)) {
      return comma < 0 ? list : list.substring(0, comma);
    }
    int end = bracket + 1;
    while (end < list.length() && Character.isDigit(list.charAt(end))) {
      end++;
    }
    int close = list.indexOf(']', end);
    if (close < 0 || end == bracket + 1) {
      throw new InvalidInputException(
          "SLURM_JOB_NODELIST is '%s', in which no first host can be found; set MASTER_ADDR"
              .formatted(list));
    }
    int next = list.indexOf(',', close);
    return list.substring(0, bracket)
        + list.substring(bracket + 1, end)
        + list.substring(close + 1, next < 0 ? list.length() : next);
  }

  /// As messages name it.
  String name(int other) {
    return "rank %d of %d".formatted(other, worldSize);
  }
}
