package dev.sluice.distributed;

import dev.sluice.InvalidInputException;
import java.util.Map;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;

/// Who this process is among the processes of a job, as its launcher says in environment variables.
///
/// @param rank from 0
/// @param worldSize how many ranks there are
/// @param localRank from 0, among the ranks on this machine
/// @param localWorldSize how many ranks share this machine's cores; 0 where the launcher does not
///   say or gives each its own
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

  /// The largest number of a step that srun starts; Slurm gives larger ones to shells (4294967290),
  /// batch scripts (4294967291) and the like, which are one process each.
  private static final long LAST_STEP = 0xFFFF_FFF0L;

  private static final Pattern TASKS = Pattern.compile("(\\d{1,9})(?:\\(x(\\d{1,9})\\))?");

  /// One process alone.
  public static final Ranks ALONE = new Ranks(0, 1, 0, 1, "127.0.0.1", 0, false, 0, null);

  public boolean isAlone() {
    return worldSize == 1;
  }

  /// Reads torchrun's variables (`RANK`, `WORLD_SIZE`, `LOCAL_RANK`, `MASTER_ADDR`, `MASTER_PORT`),
  /// or else those of Slurm's step (`SLURM_STEP_ID`, `SLURM_STEP_NUM_TASKS`, `SLURM_PROCID`,
  /// `SLURM_LOCALID`, the first host of `SLURM_STEP_NODELIST`); alone where there are neither.
  public static Ranks of(Map<String, String> environment) {
    var in = new Reader(environment);
    return in.has("RANK") || in.has("WORLD_SIZE") ? ofTorchrun(in) : ofSlurm(in);
  }

  private static Ranks ofTorchrun(Reader in) {
    int worldSize = in.number("WORLD_SIZE", 1, null);
    int rank = in.number("RANK", 0, null);
    in.require(rank < worldSize, "RANK", "WORLD_SIZE");
    if (worldSize == 1) {
      return ALONE;
    }
    int localRank = in.number("LOCAL_RANK", 0, 0);
    int localWorldSize = in.number("LOCAL_WORLD_SIZE", 1, 0);
    in.require(localWorldSize == 0 || localRank < localWorldSize, "LOCAL_RANK", "LOCAL_WORLD_SIZE");
    boolean launcherServes = "True".equals(in.environment.get("TORCHELASTIC_USE_AGENT_STORE"));
    return new Ranks(
        rank,
        worldSize,
        localRank,
        localWorldSize,
        in.text("MASTER_ADDR"),
        port(in, null),
        rank == 0 && !launcherServes,
        in.number("TORCHELASTIC_RESTART_COUNT", 0, 0),
        in.networkInterface());
  }

  /// The variables of the step count, and not those of the allocation that it runs in: the shell
  /// that `salloc` opens, a batch script, and a step of two tasks in an allocation of four all see
  /// `SLURM_NTASKS` of the allocation.
  private static Ranks ofSlurm(Reader in) {
    if (!in.has("SLURM_PROCID") || !in.has("SLURM_STEP_ID")) {
      return ALONE; // not a task of a step
    }
    boolean started = in.stepId() <= LAST_STEP; // by srun; else the step is a shell or a script
    boolean sized = !started || in.has("SLURM_STEP_NUM_TASKS");
    String size = sized ? "SLURM_STEP_NUM_TASKS" : "SLURM_NTASKS";
    int worldSize = in.number(size, 1, 1);
    if (!started && worldSize > 1) {
      throw new InvalidInputException(
          ("SLURM_STEP_ID is %s, which is a shell or a batch script and no step of srun, but"
                  + " SLURM_STEP_NUM_TASKS is %d; start ranks with srun, or %s")
              .formatted(in.text("SLURM_STEP_ID"), worldSize, in.wayOut()));
    }
    int rank = in.number("SLURM_PROCID", 0, null);
    in.require(rank < worldSize, "SLURM_PROCID", size);
    if (worldSize == 1) {
      return ALONE;
    }
    int localRank = in.number("SLURM_LOCALID", 0, 0);
    int localWorldSize = tasksOnNode(in);
    in.require(
        localWorldSize == 0 || localRank < localWorldSize,
        "SLURM_LOCALID",
        "SLURM_STEP_TASKS_PER_NODE");
    String hosts = in.has("SLURM_STEP_NODELIST") ? "SLURM_STEP_NODELIST" : "SLURM_JOB_NODELIST";
    return new Ranks(
        rank,
        worldSize,
        localRank,
        in.has("SLURM_CPUS_PER_TASK") ? 0 : localWorldSize, // then each has cores of its own
        in.has("MASTER_ADDR") ? in.text("MASTER_ADDR") : firstHost(hosts, in.text(hosts)),
        port(in, DEFAULT_PORT),
        rank == 0,
        0,
        in.networkInterface());
  }

  private static int port(Reader in, @Nullable Integer otherwise) {
    int port = in.number("MASTER_PORT", 1, otherwise);
    if (port > 65_535) {
      throw new InvalidInputException(
          "MASTER_PORT is %d; a port is from 1 to 65535".formatted(port));
    }
    return port;
  }

  /// Tasks of the step on this node: 3 on the third of `2(x2),3`; 0 where Slurm does not say.
  private static int tasksOnNode(Reader in) {
    if (!in.has("SLURM_STEP_TASKS_PER_NODE") || !in.has("SLURM_NODEID")) {
      return 0;
    }
    String counts = in.text("SLURM_STEP_TASKS_PER_NODE");
    long node = in.number("SLURM_NODEID", 0, null);
    for (String part : counts.split(",", -1)) {
      var nodes = TASKS.matcher(part);
      if (!nodes.matches()) {
        throw new InvalidInputException(
            "SLURM_STEP_TASKS_PER_NODE is '%s' in the environment, which is not a list such as '2(x3),1'; %s"
                .formatted(counts, in.wayOut()));
      }
      node -= nodes.group(2) == null ? 1 : Integer.parseInt(nodes.group(2));
      if (node < 0) {
        return Integer.parseInt(nodes.group(1));
      }
    }
    return 0;
  }

  private record Reader(Map<String, String> environment) {
    boolean has(String name) {
      String value = environment.get(name);
      return value != null && !value.isBlank();
    }

    String text(String name) {
      if (!has(name)) {
        throw new InvalidInputException(
            "the environment says that this is one of several ranks, but %s is not set; set it, or %s"
                .formatted(name, wayOut()));
      }
      return environment.getOrDefault(name, "").strip();
    }

    /// What to do where the variables were not meant.
    String wayOut() {
      return has("RANK") || has("WORLD_SIZE")
          ? "unset RANK and WORLD_SIZE to train in one process"
          : "unset SLURM_PROCID to train in one process";
    }

    /// A whole number from `least` on, or `otherwise` where there is no such variable.
    int number(String name, int least, @Nullable Integer otherwise) {
      if (!has(name) && otherwise != null) {
        return otherwise;
      }
      String value = text(name);
      try {
        int number = Integer.parseInt(value);
        if (number >= least) {
          return number;
        }
      } catch (NumberFormatException _) {
        // falls through
      }
      throw new InvalidInputException(
          "%s is '%s' in the environment; it must be a whole number of at least %d; correct it, or %s"
              .formatted(name, value, least, wayOut()));
    }

    /// Slurm's number of the step, of 32 bits without a sign.
    long stepId() {
      String value = text("SLURM_STEP_ID");
      try {
        return Integer.toUnsignedLong(Integer.parseUnsignedInt(value));
      } catch (NumberFormatException e) {
        throw new InvalidInputException(
            "SLURM_STEP_ID is '%s' in the environment; it must be a whole number from 0 to 4294967295; correct it, or %s"
                .formatted(value, wayOut()),
            e);
      }
    }

    void require(boolean possible, String rank, String size) {
      if (!possible) {
        throw new InvalidInputException(
            "%s is %s, but ranks count from 0 and %s is %s; correct them, or %s"
                .formatted(rank, text(rank), size, text(size), wayOut()));
      }
    }

    @Nullable String networkInterface() {
      return has("GLOO_SOCKET_IFNAME") ? text("GLOO_SOCKET_IFNAME") : null;
    }
  }

  /// The first host of a list in Slurm's notation: `node03` of `node[03-07,9],other`.
  ///
  /// @param name of the variable that holds the list
  static String firstHost(String name, String list) {
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
          "%s is '%s', in which no first host can be found; set MASTER_ADDR".formatted(name, list));
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
