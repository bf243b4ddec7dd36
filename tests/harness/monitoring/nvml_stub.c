/* A libnvidia-ml.so.1 that plays a script: what GPUs there are, how their readings go, and what fails when.

   NVML_STUB_SCRIPT names the script, read by the first nvmlInitWithFlags after the last nvmlShutdown. Its lines:

     clock PATH                 time is the number in this file; without it, some seconds that pass
     gpu UUID                   the lines below are of this GPU; those above, of the library
     curve NAME T:V T:V ...     piecewise linear, flat outside: power gpu sm occupancy tensor dram
     reset T                    the energy counter goes back to 0
     fail FUNCTION CODE [T]     from T on
     hang FUNCTION [T]          from T on, for ever
     gpm_fail CODE              each metric answers with this error
     name BYTES
     process PID BYTES          BYTES -1: not known
     mig                        a slice
     mig_mode                   a board cut into slices
*/
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7 };
enum { POWER, GPU, SM, OCCUPANCY, TENSOR, DRAM, NUM_CURVES };
static const char *const NAMES[NUM_CURVES] = {"power", "gpu", "sm", "occupancy", "tensor", "dram"};

typedef struct { int num; double t[64], v[64]; } Curve;
typedef struct { char function[64]; int code; double from; } Fault; /* code -1: hangs */
typedef struct { uint32_t pid; uint64_t bytes; } Process;
typedef struct {
  char uuid[96], name[64];
  Curve curve[NUM_CURVES];
  int num_resets, num_faults, num_processes, mig, mig_mode, gpm_code;
  double reset[16];
  Fault fault[32];
  Process process[16];
} Device;
typedef struct { double t; } Sample;

static Device library, device[4];
static int num_devices, num_users;
static pthread_mutex_t reading = PTHREAD_MUTEX_INITIALIZER;
static char clock_path[4096];

static double now(void) {
  if (clock_path[0]) {
    double t = 0;
    FILE *file = fopen(clock_path, "r");
    if (file) {
      if (fscanf(file, "%lf", &t) != 1) t = 0;
      fclose(file);
    }
    return t;
  }
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return (double)at.tv_sec + 1e-9 * (double)at.tv_nsec;
}

static double at(const Curve *c, double t) {
  if (!c->num) return 0;
  if (t <= c->t[0]) return c->v[0];
  for (int i = 1; i < c->num; i++)
    if (t < c->t[i]) return c->v[i - 1] + (c->v[i] - c->v[i - 1]) * (t - c->t[i - 1]) / (c->t[i] - c->t[i - 1]);
  return c->v[c->num - 1];
}

/* Exact: trapezoids between the knots. */
static double integral(const Curve *c, double from, double to) {
  double total = 0, left = from;
  for (int i = 0; i <= c->num; i++) {
    double right = i < c->num ? c->t[i] : to;
    if (right <= left) continue;
    if (right > to) right = to;
    total += (right - left) * (at(c, left) + at(c, right)) / 2;
    left = right;
    if (left >= to) break;
  }
  return total;
}

static int fault(const Device *d, const char *function) {
  for (int i = 0; i < d->num_faults; i++)
    if (!strcmp(d->fault[i].function, function) && now() >= d->fault[i].from) {
      while (d->fault[i].code < 0) pause();
      return d->fault[i].code;
    }
  return d == &library ? SUCCESS : fault(&library, function);
}

#define CHECK(d) do { int code = fault((d), __func__); if (code) return code; } while (0)
#define ANSWER(name, d, arguments, ...) int name arguments { CHECK(d); __VA_ARGS__ return SUCCESS; }

static void parse_curve(Device *d, char *rest) {
  char *name = strtok(rest, " \n"), *point;
  for (int i = 0; i < NUM_CURVES; i++)
    if (name && !strcmp(name, NAMES[i])) {
      Curve *c = &d->curve[i];
      while ((point = strtok(NULL, " \n")) && c->num < 64) {
        sscanf(point, "%lf:%lf", &c->t[c->num], &c->v[c->num]);
        c->num++;
      }
    }
}

static void parse(char *line, Device **d) {
  char word[32] = "", text[4096] = "";
  int used = 0;
  double number = 0;
  sscanf(line, "%31s %n", word, &used);
  char *rest = line + used;
  sscanf(rest, "%4095[^\n]", text);
  if (!strcmp(word, "clock")) strcpy(clock_path, text);
  else if (!strcmp(word, "gpu")) { *d = &device[num_devices++]; snprintf((*d)->uuid, sizeof (*d)->uuid, "%.95s", text); strcpy((*d)->name, "Stub GPU"); }
  else if (!strcmp(word, "name")) snprintf((*d)->name, sizeof (*d)->name, "%.63s", text);
  else if (!strcmp(word, "curve")) parse_curve(*d, rest);
  else if (!strcmp(word, "reset")) { sscanf(rest, "%lf", &number); (*d)->reset[(*d)->num_resets++] = number; }
  else if (!strcmp(word, "gpm_fail")) sscanf(rest, "%d", &(*d)->gpm_code);
  else if (!strcmp(word, "mig")) (*d)->mig = 1;
  else if (!strcmp(word, "mig_mode")) (*d)->mig_mode = 1;
  else if (!strcmp(word, "fail") || !strcmp(word, "hang")) {
    Fault *f = &(*d)->fault[(*d)->num_faults++];
    f->from = -1e9;
    f->code = -1;
    if (word[0] == 'f') sscanf(rest, "%63s %d %lf", f->function, &f->code, &f->from);
    else sscanf(rest, "%63s %lf", f->function, &f->from);
  } else if (!strcmp(word, "process")) {
    long long bytes = 0;
    Process *p = &(*d)->process[(*d)->num_processes++];
    sscanf(rest, "%u %lld", &p->pid, &bytes);
    p->bytes = (uint64_t)bytes;
  }
}

int nvmlShutdown(void);

static int read_script(void) {
  char line[8192];
  const char *path = getenv("NVML_STUB_SCRIPT");
  FILE *file = path ? fopen(path, "r") : NULL;
  Device *d = &library;
  if (!file) return 9;
  memset(&library, 0, sizeof library);
  memset(device, 0, sizeof device);
  num_devices = 0;
  clock_path[0] = 0;
  while (fgets(line, sizeof line, file)) parse(line, &d);
  fclose(file);
  return SUCCESS;
}

int nvmlInitWithFlags(unsigned flags) {
  (void)flags;
  pthread_mutex_lock(&reading);
  int code = num_users ? SUCCESS : read_script();
  num_users++;
  pthread_mutex_unlock(&reading);
  if (code == SUCCESS) code = fault(&library, __func__);
  if (code) nvmlShutdown();
  return code;
}

int nvmlShutdown(void) {
  pthread_mutex_lock(&reading);
  num_users--;
  pthread_mutex_unlock(&reading);
  return SUCCESS;
}

const char *nvmlErrorString(int code) { return code == 999 ? "Unknown Error" : "an error of the stub"; }

ANSWER(nvmlSystemGetDriverVersion, &library, (char *text, unsigned length), snprintf(text, length, "999.99");)
ANSWER(nvmlDeviceGetCount_v2, &library, (unsigned *count), *count = (unsigned)num_devices;)

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device **d) {
  CHECK(&library);
  if (index >= (unsigned)num_devices) return INVALID_ARGUMENT;
  *d = &device[index];
  return SUCCESS;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, Device **d) {
  CHECK(&library);
  for (int i = 0; i < num_devices; i++)
    if (!strcmp(uuid, device[i].uuid)) {
      *d = &device[i];
      return SUCCESS;
    }
  return NOT_FOUND;
}

ANSWER(nvmlDeviceGetUUID, d, (Device *d, char *text, unsigned length), snprintf(text, length, "%s", d->uuid);)
ANSWER(nvmlDeviceGetName, d, (Device *d, char *text, unsigned length), snprintf(text, length, "%s", d->name);)
ANSWER(nvmlDeviceGetEnforcedPowerLimit, d, (Device *d, unsigned *milliwatts), *milliwatts = 700000;)
ANSWER(nvmlDeviceIsMigDeviceHandle, d, (Device *d, unsigned *is), *is = (unsigned)d->mig;)
ANSWER(nvmlDeviceGetMigMode, d, (Device *d, unsigned *current, unsigned *pending),
       *current = *pending = (unsigned)d->mig_mode;)
ANSWER(nvmlDeviceGetPowerUsage, d, (Device *d, unsigned *milliwatts),
       *milliwatts = (unsigned)(at(&d->curve[POWER], now()) * 1000 + 0.5);)

int nvmlDeviceGetTotalEnergyConsumption(Device *d, unsigned long long *millijoules) {
  CHECK(d);
  double t = now(), from = 0, base = 5e6;
  for (int i = 0; i < d->num_resets; i++)
    if (t >= d->reset[i] && d->reset[i] >= from) from = d->reset[i], base = 0;
  *millijoules = (unsigned long long)((base + integral(&d->curve[POWER], from, t)) * 1000);
  return SUCCESS;
}

ANSWER(nvmlDeviceGetUtilizationRates, d, (Device *d, unsigned *rates),
       rates[0] = (unsigned)at(&d->curve[GPU], now()); rates[1] = 0;)

ANSWER(nvmlDeviceGetClockInfo, d, (Device *d, unsigned type, unsigned *mhz),
       *mhz = type == 1 ? 1755 : type == 2 ? 2619 : 0;)
ANSWER(nvmlDeviceGetTemperature, d, (Device *d, unsigned sensor, unsigned *celsius), (void)sensor; *celsius = 61;)

typedef struct { unsigned version, sensor; int celsius; } Temperature;

ANSWER(nvmlDeviceGetTemperatureV, d, (Device *d, Temperature *temperature), temperature->celsius = 62;)
ANSWER(nvmlDeviceGetCurrentClocksEventReasons, d, (Device *d, unsigned long long *reasons), *reasons = 0x4 | 0x20;)
ANSWER(nvmlDeviceGetCurrentClocksThrottleReasons, d, (Device *d, unsigned long long *reasons), *reasons = 0x4;)

typedef struct { unsigned pid; unsigned long long bytes; unsigned gpu_instance, compute_instance; } ProcessInfo;

int nvmlDeviceGetComputeRunningProcesses_v3(Device *d, unsigned *count, ProcessInfo *infos) {
  CHECK(d);
  if (*count < (unsigned)d->num_processes) {
    *count = (unsigned)d->num_processes;
    return INSUFFICIENT_SIZE;
  }
  *count = (unsigned)d->num_processes;
  for (unsigned i = 0; i < *count; i++)
    infos[i] = (ProcessInfo){d->process[i].pid, d->process[i].bytes, ~0u, ~0u};
  return SUCCESS;
}

ANSWER(nvmlDeviceGetGraphicsRunningProcesses_v3, d, (Device *d, unsigned *count, ProcessInfo *infos),
       (void)infos; *count = 0;)

typedef struct { unsigned version, supported; } Support;
typedef struct { unsigned id; int code; double value; const char *name[3]; } Metric;
typedef struct { unsigned version, num; Sample *first, *second; Metric metric[]; } Question;

int nvmlGpmQueryDeviceSupport(Device *d, Support *support) {
  CHECK(d);
  if (support->version != 1) return INVALID_ARGUMENT;
  support->supported = d->curve[SM].num > 0;
  return SUCCESS;
}

ANSWER(nvmlGpmSampleAlloc, &library, (Sample **sample), *sample = calloc(1, sizeof **sample);)

int nvmlGpmSampleFree(Sample *sample) {
  free(sample);
  return SUCCESS;
}

static Device *sampled;

ANSWER(nvmlGpmSampleGet, d, (Device *d, Sample *sample), sampled = d; sample->t = now();)

int nvmlGpmMetricsGet(Question *question) {
  CHECK(sampled);
  double from = question->first->t, to = question->second->t;
  if (question->version != 1 || to <= from) return INVALID_ARGUMENT;
  for (unsigned i = 0; i < question->num; i++) {
    Metric *m = &question->metric[i];
    int curve = m->id == 2 ? SM : m->id == 3 ? OCCUPANCY : m->id == 5 ? TENSOR : m->id == 10 ? DRAM : -1;
    m->code = curve < 0 ? INVALID_ARGUMENT : sampled->gpm_code;
    if (m->code == SUCCESS) m->value = integral(&sampled->curve[curve], from, to) / (to - from);
  }
  return SUCCESS;
}
