# The course as it was locked:  docker build -t course . && docker run -p 8888:8888 course
# With graphics cards: docker run --gpus all -p 8888:8888 course
FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends git make && rm -rf /var/lib/apt/lists/* \
	&& useradd --create-home --uid 1000 reader
WORKDIR /course
COPY requirements.lock ./
RUN pip install --no-cache-dir --require-hashes -r requirements.lock
COPY --chown=reader . .
RUN pip install --no-cache-dir --no-deps --no-build-isolation -e . && chown reader /course
USER reader
# Pictures are drawn here, so that a container starts at once and needs no network.
ENV COURSE_CACHE=/home/reader/course-cache
RUN course data build
EXPOSE 8888
CMD ["jupyter", "lab", "--ip=0.0.0.0", "--no-browser", "--LabApp.default_url=/lab/tree/notebooks"]
